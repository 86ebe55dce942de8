"""A trained model put to use: pictures in, every face with its classes out."""
