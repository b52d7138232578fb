"""``run.py stale``: which committed results are older than the code that they describe."""
