"""From raw archives to labelled face crops."""
