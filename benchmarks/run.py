"""Measures dfad_fast beside eager mode, torch.compile and the machine's own limits.

    python benchmarks/run.py all --quick
    python benchmarks/run.py ops --out runs/benchmarks
    python benchmarks/run.py step --pair lenet
    python benchmarks/run.py train --dataset digits
    python benchmarks/run.py instructions
    python benchmarks/run.py compare BEFORE.json AFTER.json

On the CPU let nothing else run: every process here uses all cores that it is given.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# As a script, Python puts benchmarks/ on the path instead of the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.results import Results

WIDTH = 160  # columns that the tables need
OPS_SECONDS = 2.0  # per case and mode of `ops`, past which no further round is started
STEP_SECONDS = 45.0  # per race of `step`, likewise
QUICK_STEP_SECONDS = 10.0
QUICK_BATCH = 128  # images per batch of `step --quick`
QUICK_IMAGES = 15_360  # generated, of `train --quick`
IMAGES_OF_ALL = 38_400  # of `all`'s train, which alone takes half an hour
QUICK_EPOCHS = 5  # of its teacher
BUSY = 0.5  # load per core above which a measurement is doubtful


@dataclass(frozen=True)
class Options:
    """What every measuring command takes."""

    quick: bool
    device: str
    threads: int
    out: Path

    def __post_init__(self) -> None:
        # Late, here and below: the contenders' processes import this file too.
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise click.ClickException("--device cuda: torch sees no GPU here")


def measuring(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options, and hands them on as one argument."""

    @click.option("--quick", is_flag=True, help="Few cases, few rounds: under 3 minutes on 2 cores.")
    @click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
    @click.option("--threads", type=click.IntRange(min=1), help="Of each contender; by default all cores.")
    @click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("runs/benchmarks"),
        show_default=True,
    )
    @functools.wraps(command)
    def wrapped(quick: bool, device: str, threads: int | None, out: Path, **others: Any) -> None:
        command(Options(quick, device, threads or _cores(), out), **others)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Benchmarks of dfad_fast."""


@main.command()
@measuring
@click.option(
    "--no-compile", is_flag=True, help="Without torch.compile, whose compilations take half of the time."
)
@click.option(
    "--match", multiple=True, metavar="TEXT", help="Only cases whose name holds this, or one of several."
)
def ops(options: Options, no_compile: bool, match: tuple[str, ...]) -> None:
    """Measure the ops: ops.json, ops.csv, ops.md and plots in --out."""
    _fail_if(measure_ops(options, not no_compile, match))


@main.command()
@measuring
@click.option("--pair", type=click.Choice(["lenet", "resnet", "all"]), default="all", show_default=True)
def step(options: Options, pair: str) -> None:
    """Measure whole iterations beside the published loop: step.json, step.csv, step.md and plots in --out.

    --quick: the speeds alone, on smaller batches, and where no pair is named on LeNets.
    """
    _fail_if(measure_step(options, pair))


@main.command()
@measuring
@click.option(
    "--dataset", type=click.Choice(["digits", "fashion-mnist"]), default="digits", show_default=True
)
@click.option("--data-dir", help="Where the dataset's files are; nothing is downloaded.")
@click.option(
    "--images", type=click.IntRange(min=1), help="That every run generates.  [default: 268800; quick: 15360]"
)
@click.option("--seeds", metavar="N,N,...", help="Of the runs.  [default: 0,1,2]")
@click.option(
    "--teachers", default="runs/teachers", show_default=True, help="Folder of the trained teachers."
)
def train(
    options: Options,
    dataset: str,
    data_dir: str | None,
    images: int | None,
    seeds: str | None,
    teachers: str,
) -> None:
    """Measure the time to accuracy, by every method and the published loop: train.json and so on in --out."""
    _fail_if(measure_train(options, dataset, data_dir, images, _numbers(seeds), teachers))


@main.command("all")
@measuring
def everything(options: Options) -> None:
    """Measure ops, step and train, each into a folder of its own in --out.

    Shorter than each alone: train generates 38,400 images a run, ops leave half precision out on the CPU.
    --quick: the ops without torch.compile and without the allocator as it comes.
    """
    ops, step, train = (replace(options, out=options.out / name) for name in ("ops", "step", "train"))
    _fail_if(
        [
            *measure_ops(
                ops,
                with_compile=not options.quick,
                unpinned=not options.quick,
                halves=options.device == "cuda",
            ),
            *measure_step(step),
            *measure_train(train, images=None if options.quick else IMAGES_OF_ALL),
        ]
    )


@main.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/benchmarks"),
    show_default=True,
)
def instructions(out: Path) -> None:
    """Count the instructions of the C++ kernels, under valgrind: instructions.json and so on in --out."""
    from benchmarks import instructions as counting

    try:
        results = counting.run()
    except counting.Unavailable as error:
        raise click.ClickException(str(error)) from error
    _finish(results, counting, out, _console())


@main.command()
@click.argument("before", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--threshold", default=0.1, show_default=True, help="Smallest relative change that counts.")
def compare(before: Path, after: Path, threshold: float) -> None:
    """Differences between two result files beyond noise; exit code 1 where dfad_fast became slower or less accurate.

    Of instruction counts, which repeat, a tenth of the threshold counts.
    """
    from rich.console import Console

    from benchmarks import compare as comparison
    from benchmarks import results

    try:
        found = comparison.compare(results.load(before), results.load(after), threshold)
    except (results.Unreadable, comparison.Unlike) as error:
        raise click.ClickException(str(error)) from error
    comparison.print_comparison(found, Console())
    sys.exit(1 if found.regressions else 0)


@main.command()
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder that holds ops/ops.json, step/step.json and train/train.json.",
)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("README.md"),
    show_default=True,
)
def readme(results: Path, file: Path) -> None:
    """Put the tables of result files between their marks in README.md."""
    from benchmarks.readme import fill
    from benchmarks.results import Unreadable

    try:
        file.write_text(fill(file.read_text(), results))
    except Unreadable as error:
        raise click.ClickException(str(error)) from error


def measure_ops(
    options: Options,
    with_compile: bool = True,
    match: Sequence[str] = (),
    unpinned: bool = True,
    halves: bool = True,
) -> list[str]:
    """What failed that is dfad_fast's own, here and below."""
    from benchmarks import report
    from benchmarks.cases import CASES
    from benchmarks.measure import Settings
    from benchmarks.ops import run

    cases = [c for c in CASES if c.quick or not options.quick]
    if match:
        cases = [c for c in cases if any(text in c.name for text in match)]
    if not cases:
        raise click.BadParameter(f"no case's name holds {' or '.join(match)}", param_hint="--match")
    if not halves:
        cases = [case for case in cases if case.dtype.itemsize > 2]
    if not unpinned:
        cases = [replace(case, unpinned=False) for case in cases]
    chosen = Settings(options.threads, options.device, rounds=5, budget_seconds=OPS_SECONDS)
    console = _console()
    with _progress(console) as tell:
        results = run(cases, chosen, tell, with_compile)
    _finish(results, report, options.out, console)
    return [c["case"] for c in results["contestants"] if c["problem"] and c["contender"] == "dfad_fast"]


def measure_step(options: Options, pair: str = "all") -> list[str]:
    from benchmarks import step_report
    from benchmarks.measure import Settings
    from benchmarks.step import CEILINGS, QUICK_CEILINGS, run
    from benchmarks.step_cases import CONTENDERS, PAIRS, RACES

    pairs = [p for p in PAIRS.values() if pair in ("all", p.name)]
    if options.device == "cuda":
        pairs = [replace(p, batch_size=p.gpu_batch_size or p.batch_size) for p in pairs]
    chosen = Settings(options.threads, options.device, rounds=7, budget_seconds=STEP_SECONDS)
    if options.quick:
        pairs = [replace(p, batch_size=min(p.batch_size, QUICK_BATCH)) for p in pairs[:1]]
        chosen = replace(chosen, rounds=3, budget_seconds=QUICK_STEP_SECONDS)
    sizes = QUICK_CEILINGS if options.quick else CEILINGS
    console = _console()
    with _progress(console) as tell:
        results = run(pairs, CONTENDERS, chosen, tell, sizes, RACES[:1] if options.quick else RACES)
    _finish(results, step_report, options.out, console)
    return [row["contender"] for row in results["rows"] if row["problem"] and not row["skipped"]]


def measure_train(
    options: Options,
    dataset: str = "digits",
    data_dir: str | None = None,
    images: int | None = None,
    seeds: tuple[int, ...] | None = None,
    teachers: str = "runs/teachers",
) -> list[str]:
    from benchmarks import train_report
    from benchmarks.measure import Settings
    from benchmarks.train import run
    from benchmarks.train_cases import CONTENDERS, Job
    from dfad_fast.errors import DFADFastError

    job = Job(dataset, data_dir, teachers)
    contenders = [c for c in CONTENDERS if c.quick or not options.quick]
    if options.quick:
        job = replace(job, teacher_epochs=QUICK_EPOCHS, images=QUICK_IMAGES, seeds=(0,))
    job = replace(job, images=images or job.images, seeds=seeds or job.seeds)
    console = _console()
    try:
        with _progress(console) as tell:
            results = run(job, contenders, Settings(options.threads, options.device), tell)
    except DFADFastError as error:
        raise click.ClickException(str(error)) from error
    _finish(results, train_report, options.out, console)
    return [row["contender"] for row in results["rows"] if row["problem"]]


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise click.BadParameter(
            f"expected whole numbers separated by commas, got {text!r}", param_hint="--seeds"
        )
    return tuple(map(int, parts))


def _fail_if(lost: Sequence[str]) -> None:
    if lost:
        raise click.ClickException(f"failed, see above: {', '.join(dict.fromkeys(lost))}")


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


def _finish(results: Results, report: ModuleType, folder: Path, console: Console) -> None:
    """Writes and prints the report; exit code 130 after an interrupt."""
    results["command"] = shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]])
    files = report.save(results, folder)
    report.print_report(results, console)
    for skipped in results["skipped"]:
        console.print(f"skipped: {skipped['case']}: {skipped['reason']}")
    console.print(f"written: {', '.join(str(file) for file in files)}")
    if not results["complete"]:
        console.print("interrupted: the tables hold what was measured until then")
        sys.exit(130)


if __name__ == "__main__":
    main()
