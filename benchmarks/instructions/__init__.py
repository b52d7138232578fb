"""``run.py instructions``: instruction counts of the C++ kernels, by valgrind."""
