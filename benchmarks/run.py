"""Benchmarks dfad_fast against eager mode, torch.compile and the machine's limits.

    python benchmarks/run.py all --quick
    python benchmarks/run.py ops --out runs/benchmarks
    python benchmarks/run.py step --pair lenet
    python benchmarks/run.py train --dataset digits
    python benchmarks/run.py instructions
    python benchmarks/run.py compare BEFORE.json AFTER.json

On the CPU run nothing else at the same time: every process here uses all its cores. Each command is a package of the
same name, whose ``command.py`` is imported on demand.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

if not __package__:
    # For a script Python puts this folder on the path, but its packages may have the same names as others. Its parent
    # replaces it, here and in the contenders' processes, which import this file, too.
    here = Path(__file__).resolve().parent
    root = str(here.parent)
    sys.path[:] = [root, *(path for path in sys.path if path != root and Path(path).resolve() != here)]

COMMANDS = (
    "accuracy",
    "all",
    "aot",
    "bank",
    "compare",
    "convolutions",
    "instructions",
    "methods",
    "networks",
    "occupancy",
    "ops",
    "pages",
    "processes",
    "sectors",
    "stale",
    "step",
    "train",
)


class Commands(click.Group):
    """Loads ``benchmarks.NAME.command`` for the command NAME."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"benchmarks.{name}.command").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Benchmarks of dfad_fast."""


if __name__ == "__main__":
    main()
