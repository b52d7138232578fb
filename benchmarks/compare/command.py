"""The command line of ``run.py compare``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("compare")
@click.argument("before", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--threshold", default=0.1, show_default=True, help="Smallest relative change that counts.")
def command(before: Path, after: Path, threshold: float) -> None:
    """Show differences between two result files that exceed noise; exit code 1 if dfad_fast is slower or less accurate.

    Instruction counts are reproducible, so a tenth of the threshold applies to them.
    """
    from rich.console import Console

    from benchmarks.compare.comparison import Unlike, compare
    from benchmarks.compare.report import print_comparison
    from benchmarks.measuring.results import Unreadable, load

    try:
        found = compare(load(before), load(after), threshold)
    except (Unreadable, Unlike) as error:
        raise click.ClickException(str(error)) from error
    print_comparison(found, Console())
    sys.exit(1 if found.regressions else 0)
