"""``run.py processes``: the speed-up of a run by several processes."""
