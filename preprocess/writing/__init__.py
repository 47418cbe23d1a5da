"""From a plan to a finished store: shards, resuming, dry runs, provenance, verification."""
