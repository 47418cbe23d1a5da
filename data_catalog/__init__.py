"""What datasets exist, how to read their layouts, where their stores are, and the store's one schema."""
