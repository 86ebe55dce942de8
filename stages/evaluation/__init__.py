"""Every figure of one run."""
