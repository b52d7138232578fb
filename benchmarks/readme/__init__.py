"""``run.py readme``: README's tables from files of results."""
