"""Raw archives, labels, the index of crops, and labelled examples."""
