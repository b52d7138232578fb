"""Terminal output of a measuring command during and after the run."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.measuring.results import Results

WIDTH = 160  # columns that the tables need
BUSY = 0.5  # load per core above which measurements are unreliable
Progress = Callable[[int, int, str], None]  # done, total, name


def make_console() -> Console:
    """A console wide enough for the tables. Prints a warning if the machine is busy."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, WIDTH)
    if os.getloadavg()[0] > BUSY * (os.cpu_count() or 1):
        console.print(
            f"[yellow]The machine is busy (load {os.getloadavg()[0]:.1f}): times will be unreliable."
        )
    return console


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """Shows progress as a bar. Inside the block Ctrl-C and SIGTERM raise KeyboardInterrupt."""
    from rich.progress import Progress as Bar

    # Measurements must also survive a batch system's SIGTERM, and Ctrl-C in a shell's background jobs, which ignore it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("starting")
        yield lambda done, of, name: bar.update(task, completed=done, total=of, description=name)


def finish(results: Results, report: ModuleType, folder: Path, console: Console) -> None:
    """Writes and prints the report; exit code 130 after an interrupt."""
    results["command"] = shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]])
    files = report.save(results, folder)
    report.print_report(results, console)
    for skipped in results["skipped"]:
        console.print(f"skipped: {skipped['case']}: {skipped['reason']}")
    console.print(f"written: {', '.join(str(file) for file in files)}")
    if not results["complete"]:
        console.print("interrupted: the tables contain the measurements so far")
        sys.exit(130)
