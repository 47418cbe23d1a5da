"""The store: its schema, and its two formats."""
