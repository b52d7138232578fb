"""``run.py processes``: what a run gains by several processes."""
