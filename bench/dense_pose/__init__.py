"""Measurements of DensePose: ours beside its own script, sizes, precisions."""
