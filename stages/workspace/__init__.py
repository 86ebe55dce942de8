"""The project on disk: its params file, whole-file writes, fetching what it needs."""
