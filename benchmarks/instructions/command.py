"""The command line of ``run.py instructions``."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.measuring.options import out_option
from benchmarks.measuring.terminal import finish, make_console


@click.command("instructions")
@out_option
def command(out: Path) -> None:
    """Count the instructions of the C++ kernels under valgrind; writes instructions.json, .csv and .md in --out."""
    from benchmarks.instructions import counting, report

    try:
        results = counting.run()
    except counting.Unavailable as error:
        raise click.ClickException(str(error)) from error
    finish(results, report, out, make_console())
