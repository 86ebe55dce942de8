"""Searches and suites as DVC experiments: settings, queue, outcomes, tables."""
