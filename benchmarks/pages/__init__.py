"""``run.py pages``: the tables of docs/results/speed.md from files of results."""
