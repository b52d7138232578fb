"""``run.py compare``: differences between two result files that exceed noise."""
