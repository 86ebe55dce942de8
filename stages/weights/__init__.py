"""Sources of pretrained weights, and safe readers of untrusted files."""
