"""What a run is, and DVC experiments: resolve params, queue, search, record."""
