"""What the predictions say: scores, plots and tables. Knows nothing of networks."""
