"""Pretrained weights: which there are, and how files are fetched."""
