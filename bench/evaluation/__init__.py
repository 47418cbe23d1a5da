"""What scores, re-ranking and reports cost."""
