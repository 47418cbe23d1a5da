"""The training loop and what surrounds it: checks, checkpoints, schedule, events, export."""
