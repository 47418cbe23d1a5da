"""Rows of shards by plain reads of their files, in either format."""
