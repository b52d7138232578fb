"""The folder of a run: where its files are, how they are written atomically, and how they are read."""
