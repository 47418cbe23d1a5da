"""Making the weights of the embedded dense pose network: rendered people, pictures around them, training, scores."""
