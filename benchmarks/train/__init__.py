"""``run.py train``: time to accuracy, by every method and the published loop."""
