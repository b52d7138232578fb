"""Measures dfad_fast beside eager mode, torch.compile and the machine's own limits; a package per command of run.py."""
