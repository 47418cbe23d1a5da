"""People of Anny's bodies: body, charts, poses, clothes, colours, what is carried, and the rasteriser."""
