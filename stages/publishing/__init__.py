"""What is published of a run of the workflow: records, and figures in README.md and docs/."""
