"""Files that lie elsewhere: downloads and object storage."""
