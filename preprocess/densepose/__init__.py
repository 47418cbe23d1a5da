"""DensePose itself: the network in plain PyTorch, its weights, and the decoding of its charts."""
