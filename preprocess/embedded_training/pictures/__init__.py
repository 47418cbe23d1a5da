"""Training pictures: people, backgrounds, cloth and cameras put together."""
