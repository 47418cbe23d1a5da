"""What of a ranking is looked at: its lists, its distances, its embeddings in a plane."""
