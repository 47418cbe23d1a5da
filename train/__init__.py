"""From stores to networks: streaming, augmentation, DSA-reID, its losses and schedule, evaluation."""
