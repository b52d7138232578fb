"""Changes a network's form without changing its answers: folding, memory layout, faster kernels, synchronization."""
