"""``run.py aot``: what the compiler produces from the Triton kernels."""
