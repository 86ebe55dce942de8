"""What a run is: its plan, its inputs, where it comes from."""
