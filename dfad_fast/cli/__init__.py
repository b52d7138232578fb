"""The command line: ``dfad-fast distill``, and commands that resume, show or export its results. One file each."""

from dfad_fast.cli.entry import main

__all__ = ["main"]
