"""Face detection and cropping."""
