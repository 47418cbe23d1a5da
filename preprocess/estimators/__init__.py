"""What can give an image its dense pose: existing IUV maps, our DensePose, Detectron2's."""
