"""``run.py occupancy``: what of the CUDA kernels a multiprocessor holds, and whether that keeps its memory busy."""
