"""Commands about where dense pose comes from."""
