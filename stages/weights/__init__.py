"""Pretrained weights: where they come from, and how untrusted files are read."""
