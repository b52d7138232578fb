"""The command line: ``dfad-fast distill``, and what resumes, shows or hands over what it made. One file per command."""

from dfad_fast.cli.entry import main

__all__ = ["main"]
