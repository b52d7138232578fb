"""``run.py sectors``: how much of the memory that the GPU kernels move they use, counted on their PTX."""
