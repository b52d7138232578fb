"""``run.py aot``: what the compiler makes of the Triton kernels."""
