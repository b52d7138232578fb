"""``run.py ops``: every op beside the same formulas in plain PyTorch."""
