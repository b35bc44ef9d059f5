"""Backward demand: what the consumers of each value still need of it."""
