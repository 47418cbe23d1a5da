"""What shares its first stages among the branches: ResNets, other networks in stages, vision transformers."""
