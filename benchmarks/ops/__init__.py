"""``run.py ops``: every op compared with the same formulas in plain PyTorch."""
