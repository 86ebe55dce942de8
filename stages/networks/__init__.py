"""What a network is: backbone, heads, the file that holds it, its predictions."""
