"""What is published: records, figures in README.md and docs/, plots of DVC."""
