"""Images drawn on the fly from a seed, one file per kind of drawing; nobody trains what draws them."""
