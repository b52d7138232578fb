"""The command line of ``run.py step``."""

from __future__ import annotations

from dataclasses import replace

import click

from benchmarks.measuring.options import Options, fail_if, measuring
from benchmarks.measuring.terminal import finish, make_console, progress

SECONDS = 45.0  # per race; after that no further round starts
QUICK_SECONDS = 10.0
QUICK_BATCH = 128  # images


@click.command("step")
@measuring
@click.option(
    "--pair",
    type=click.Choice(["lenet", "fashion", "resnet20", "resnet", "all"]),
    default="all",
    show_default=True,
)
def command(options: Options, pair: str) -> None:
    """Compare whole iterations with the published loop; writes step.json, step.csv, step.md and plots in --out.

    --quick: only the speeds, on smaller batches, and on LeNets unless a pair is given.
    """
    fail_if(measure(options, pair))


def measure(options: Options, pair: str = "all") -> list[str]:
    """Returns the contenders that failed."""
    from benchmarks.measuring.settings import Settings
    from benchmarks.step import races, report
    from benchmarks.step.cases import CONTENDERS, PAIRS, RACES

    pairs = [p for p in PAIRS.values() if pair in ("all", p.name)]
    if options.device == "cuda":
        pairs = [replace(p, batch_size=p.gpu_batch_size or p.batch_size) for p in pairs]
    chosen = Settings(options.threads, options.device, rounds=7, budget_seconds=SECONDS)
    if options.quick:
        pairs = [replace(p, batch_size=min(p.batch_size, QUICK_BATCH)) for p in pairs[:1]]
        chosen = replace(chosen, rounds=3, budget_seconds=QUICK_SECONDS)
    sizes = races.QUICK_CEILINGS if options.quick else races.CEILINGS
    console = make_console()
    with progress(console) as tell:
        results = races.run(pairs, CONTENDERS, chosen, tell, sizes, RACES[:1] if options.quick else RACES)
    finish(results, report, options.out, console)
    return [row["contender"] for row in results["rows"] if row["problem"] and not row["skipped"]]
