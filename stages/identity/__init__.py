"""Who is on a picture: face embeddings, and photographs of one person."""
