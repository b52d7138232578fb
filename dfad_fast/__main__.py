"""``python -m dfad_fast`` is the command ``dfad-fast``."""

from dfad_fast.cli import main

main()
