"""A trained model put to use on anybody's pictures."""
