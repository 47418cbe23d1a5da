"""Pictures of people with exact IUV maps, to train the embedded dense pose network; users need none of it."""
