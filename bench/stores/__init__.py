"""Measurements of stores: writing, reading, interrupting."""
