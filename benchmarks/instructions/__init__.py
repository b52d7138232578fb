"""``run.py instructions``: what the C++ kernels take, counted by valgrind."""
