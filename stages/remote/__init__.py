"""Downloads and remote storage."""
