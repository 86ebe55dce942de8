"""Detection of duplicates, and the train, val and test splits that keep them together."""
