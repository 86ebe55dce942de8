"""Parallel work on threads, processes and clusters."""
