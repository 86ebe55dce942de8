"""From raw archives of portraits to labelled face crops."""
