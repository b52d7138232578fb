"""``run.py step``: whole iterations beside the published loop."""
