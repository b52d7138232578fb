"""``run.py all``: ops, step and train."""
