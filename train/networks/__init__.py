"""The trunk, the two streams of DSA-reID and the branches of MagnifierNet."""
