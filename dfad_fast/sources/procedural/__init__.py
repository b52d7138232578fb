"""Images drawn on the fly from a seed by fixed rules, one file per kind of drawing."""
