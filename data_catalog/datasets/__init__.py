"""Datasets on disk: where they are, how they are laid out, how many images they have."""
