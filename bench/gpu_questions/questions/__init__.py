"""The questions: a module each, with the function that its step calls."""
