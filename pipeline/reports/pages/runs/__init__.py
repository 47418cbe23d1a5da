"""The report of runs: what they are, what they score, what they get wrong."""
