"""From images to face crops."""
