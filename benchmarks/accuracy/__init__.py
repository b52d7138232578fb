"""``run.py accuracy``: a study of accuracy from a file, arms x data x seeds. Only missing runs are run."""
