"""Identity, triplet, mask, diversity and attribute losses, and their sums for each network family."""
