"""What a run is: its plan, its input, the caches that all runs share."""
