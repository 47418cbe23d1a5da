"""From IUV maps to 7-part masks and DSAP images."""
