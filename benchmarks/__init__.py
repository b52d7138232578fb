"""Benchmarks of dfad_fast against eager mode, torch.compile and the machine's limits; a package per run.py command."""
