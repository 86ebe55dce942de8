"""Copies of a picture, and the train, val and test split that keeps them together."""
