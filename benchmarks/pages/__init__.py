"""``run.py pages``: the tables of docs/results/speed.md from result files."""
