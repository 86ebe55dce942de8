"""Apply trained models to any images."""
