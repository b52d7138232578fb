"""Measures dfad_fast beside eager mode, torch.compile and the machine's own limits.

    python benchmarks/run.py ops --quick
    python benchmarks/run.py ops --out runs/benchmarks
    python benchmarks/run.py step --pair lenet
    python benchmarks/run.py compare BEFORE.json AFTER.json

On the CPU let nothing else run: every process here uses all cores that it is given.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

# As a script, Python puts benchmarks/ on the path instead of the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 160  # columns that the tables need
STEP_SECONDS = 90.0  # per pair of `step`, past which no further round is started
QUICK_STEP_SECONDS = 60.0
BUSY = 0.5  # load per core above which a measurement is doubtful


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Benchmarks of dfad_fast."""


@main.command()
@click.option("--quick", is_flag=True, help="Few cases, few rounds: under 3 minutes on 2 cores.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of each contender; by default all cores.")
@click.option(
    "--no-compile", is_flag=True, help="Without torch.compile, whose compilations take half of the time."
)
@click.option("--match", metavar="TEXT", help="Only cases whose name holds this.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/benchmarks"),
    show_default=True,
)
def ops(
    quick: bool, device: str, threads: int | None, no_compile: bool, match: str | None, out: Path
) -> None:
    """Measure the ops: ops.json, ops.csv, ops.md and plots in --out."""
    # Late, here and below: the contenders' processes import this file too.
    import torch

    from benchmarks import report
    from benchmarks.cases import CASES
    from benchmarks.measure import Settings
    from benchmarks.ops import run

    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device cuda: torch sees no GPU here")
    cases = [c for c in CASES if (c.quick or not quick) and (match is None or match in c.name)]
    if not cases:
        raise click.BadParameter(f"no case's name holds {match!r}", param_hint="--match")
    console = _console()
    chosen = Settings(threads or _cores(), device)
    if quick:
        chosen = Settings(threads or _cores(), device, rounds=5, budget_seconds=2.0)
    with _progress(console) as tell:
        results = run(cases, chosen, tell, not no_compile)
    files = report.save(results, out)
    report.print_report(results, console)
    _tell_files(results, files, console)
    lost = [c for c in results["contestants"] if c["problem"] and c["contender"] == "dfad_fast"]
    if lost:
        raise click.ClickException(f"dfad_fast failed in {len(lost)} cases, see above")


@main.command()
@click.option("--quick", is_flag=True, help="The LeNet pair alone, few rounds.")
@click.option("--pair", type=click.Choice(["lenet", "resnet", "all"]), default="all", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of each contender; by default all cores.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/benchmarks"),
    show_default=True,
)
def step(quick: bool, pair: str, threads: int | None, out: Path) -> None:
    """Measure whole iterations beside the published loop: step.json, step.csv and step.md in --out."""
    from benchmarks import step_report
    from benchmarks.measure import Settings
    from benchmarks.step import CEILINGS, QUICK_CEILINGS, run
    from benchmarks.step_cases import CONTENDERS, PAIRS

    if quick and pair == "all":
        pair = "lenet"
    console = _console()
    chosen = Settings(
        threads or _cores(),
        rounds=2 if quick else 7,
        budget_seconds=QUICK_STEP_SECONDS if quick else STEP_SECONDS,
    )
    with _progress(console) as tell:
        pairs = [p for p in PAIRS.values() if pair in ("all", p.name)]
        results = run(pairs, CONTENDERS, chosen, tell, QUICK_CEILINGS if quick else CEILINGS)
    files = step_report.save(results, out)
    step_report.print_report(results, console)
    _tell_files(results, files, console)
    if lost := [row for row in results["rows"] if row["problem"]]:
        names = ", ".join(dict.fromkeys(row["contender"] for row in lost))
        raise click.ClickException(f"failed, see above: {names}")


@main.command()
@click.argument("before", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--threshold", default=0.1, show_default=True, help="Smallest relative change that counts.")
def compare(before: Path, after: Path, threshold: float) -> None:
    """Differences between two result files beyond noise; exit code 1 where dfad_fast became slower."""
    from rich.console import Console

    from benchmarks import report

    try:
        found = report.compare(report.load(before), report.load(after), threshold)
    except report.Unreadable as error:
        raise click.ClickException(str(error)) from error
    report.print_comparison(found, Console())
    sys.exit(1 if found.regressions else 0)


def _cores() -> int:
    return os.cpu_count() or 1


def _console() -> Console:
    """Wide enough for the tables; says where the machine is busy."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, WIDTH)
    if os.getloadavg()[0] > BUSY * _cores():
        console.print(f"[yellow]The machine is busy (load {os.getloadavg()[0]:.1f}): times will be doubtful.")
    return console


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """What is told (done, of, name) as a bar. Inside, Ctrl-C and SIGTERM raise KeyboardInterrupt."""
    from rich.progress import Progress

    # A batch system's SIGTERM is to keep what was measured too, as is Ctrl-C, which a shell's background jobs ignore.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("starting")
        yield lambda done, of, name: bar.update(task, completed=done, total=of, description=name)


def _tell_files(results: dict[str, Any], files: Sequence[Path], console: Console) -> None:
    """Names the files; exit code 130 after an interrupt."""
    console.print(f"written: {', '.join(str(file) for file in files)}")
    if not results["complete"]:
        console.print("interrupted: the tables hold what was measured until then")
        sys.exit(130)


if __name__ == "__main__":
    main()
