"""``run.py accuracy``: a study of accuracy from a file, arms x data x seeds, which runs only what is missing."""
