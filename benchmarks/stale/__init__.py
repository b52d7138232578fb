"""``run.py stale``: lists committed results that are older than the code that they describe."""
