"""The ops in Triton, one file per op: formula, kernels, launcher. Imported as ``dfad_fast.kernels``.

A launcher writes its results into tensors that the caller allocated. It checks nothing and never waits for the device,
so it can be captured in a CUDA graph. ``dfad_fast/ops/_triton.py`` registers the launchers with the dispatcher.
Importing a file of this package imports Triton; importing ``dfad_fast`` does not.
"""
