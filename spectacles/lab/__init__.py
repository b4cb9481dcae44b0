"""Runs the five variants as black boxes: demo, compare, check."""
