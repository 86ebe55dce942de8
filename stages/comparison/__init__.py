"""Figures that span runs: the comparison table, paired tests, the leak, costs."""
