"""DATASET=synthetic: rendered people with exact IUV in Market-1501's layout, so that everything runs offline."""
