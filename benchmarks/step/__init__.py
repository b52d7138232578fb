"""``run.py step``: whole iterations compared with the published loop."""
