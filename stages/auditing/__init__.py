"""Test images that were trained on, themselves or as a copy."""
