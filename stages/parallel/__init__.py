"""Work spread over threads, processes and clusters."""
