"""From a store to batches: rows, augmentation, the identity sampler, and the ways batches reach a device."""
