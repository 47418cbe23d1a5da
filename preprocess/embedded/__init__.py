"""The dense pose network that comes with the project: its layers and its weights."""
