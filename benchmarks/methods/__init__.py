"""``run.py methods``: methods, or levers, on one teacher over several seeds."""
