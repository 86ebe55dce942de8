"""Raw images: archives, where they lie, how they are decoded."""
