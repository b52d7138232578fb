"""The command line of ``run.py ops``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from benchmarks.measuring.options import Options, fail_if, measuring
from benchmarks.measuring.terminal import finish, make_console, progress

SECONDS = 2.0  # per case and mode; after that no further round starts


@click.command("ops")
@measuring
@click.option(
    "--no-compile", is_flag=True, help="Skip torch.compile, whose compilations take half of the time."
)
@click.option(
    "--match", multiple=True, metavar="TEXT", help="Only cases whose name contains TEXT; repeatable."
)
def command(options: Options, no_compile: bool, match: tuple[str, ...]) -> None:
    """Measure the ops; writes ops.json, ops.csv, ops.md and plots in --out."""
    fail_if(measure(options, not no_compile, match))


def measure(
    options: Options,
    with_compile: bool = True,
    match: Sequence[str] = (),
    unpinned: bool = True,
    halves: bool = True,
) -> list[str]:
    """Returns the cases in which dfad_fast itself failed."""
    from benchmarks.measuring.results import OURS
    from benchmarks.measuring.settings import Settings
    from benchmarks.ops import races, report
    from benchmarks.ops.cases import CASES

    cases = [c for c in CASES if c.quick or not options.quick]
    if match:
        cases = [c for c in cases if any(text in c.name for text in match)]
    if not cases:
        raise click.BadParameter(f"no case's name contains {' or '.join(match)}", param_hint="--match")
    if not halves:
        cases = [case for case in cases if case.dtype.itemsize > 2]
    if not unpinned:
        cases = [replace(case, unpinned=False) for case in cases]
    chosen = Settings(options.threads, options.device, rounds=5, budget_seconds=SECONDS)
    console = make_console()
    with progress(console) as tell:
        results = races.run(cases, chosen, tell, with_compile)
    finish(results, report, options.out, console)
    return [c["case"] for c in results["contestants"] if c["problem"] and c["contender"] == OURS]
