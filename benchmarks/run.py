"""Measures dfad_fast beside eager mode, torch.compile and the machine's own limits.

    python benchmarks/run.py all --quick
    python benchmarks/run.py ops --out runs/benchmarks
    python benchmarks/run.py step --pair lenet
    python benchmarks/run.py train --dataset digits
    python benchmarks/run.py instructions
    python benchmarks/run.py compare BEFORE.json AFTER.json

On the CPU let nothing else run: every process here uses all cores that it is given. Each command is the package of its
name; its ``command.py`` is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

if not __package__:
    # As a script: Python put this folder on the path, where the packages are called as others may be. The folder that
    # holds it takes its place, here and in the contenders' processes, which import this file too.
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
    """``benchmarks.NAME.command`` for each name."""

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
