"""From images to stores: decoding, dense pose estimation, 7-part masks and DSAP images, written shard by shard."""
