"""What the predictions say: scores, plots, tables and the report. Builds no network."""
