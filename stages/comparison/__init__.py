"""Every figure that spans runs: the comparison table, paired tests, the leak, searches."""
