"""Runs beside each other: a table and a picture of what came of them, seeds of the same settings taken together."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dfad_fast.errors import UsageError
from dfad_fast.training.job import DistillConfig
from dfad_fast.training.run_folder import CONFIG, METRICS, SUMMARY, read_records, read_settings

_WIDE = 200  # columns, where the table is read from a file
# What two runs may differ in and still be runs of the same settings.
_OWN = (
    "seed", "out", "evaluate", "data_dir", "teachers", "device", "keep_checkpoints", "checkpoint_seconds",
    "checkpoint_iterations", "process_timeout", "log",
)  # fmt: skip
_NEEDED = (
    "method",
    "seed",
    "generated_images",
    "seconds_distill",
    "teacher_accuracy",
    "student_accuracy_final",
)


@dataclass(frozen=True)
class Run:
    """A finished or stopped run, as its folder tells of it."""

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Group:
    """Runs of the same settings, but for their seeds; ``name`` says what these are."""

    name: str
    runs: list[Run]

    def values(self, key: str) -> list[float]:
        """Of a summary's entry, by run; empty where a run lacks it."""
        found = [run.summary.get(key) for run in self.runs]
        return [value for value in found if value is not None] if None not in found else []


def load(folder: str | Path) -> Run:
    """Raises UsageError for a folder that holds no summary of a run."""
    folder = Path(folder)
    try:
        settings = read_settings(folder / CONFIG)
        summary = json.loads((folder / SUMMARY).read_text())
        history = read_records(folder / METRICS) if (folder / METRICS).is_file() else []
        if not isinstance(summary, dict):
            raise ValueError("no mapping")
        if missing := [name for name in _NEEDED if name not in summary]:
            raise ValueError(f"{SUMMARY} lacks {', '.join(missing)}")
    except OSError as error:
        raise UsageError(
            f"{folder} holds no run that has ended ({error.filename}: {error.strerror}): give folders of "
            "dfad-fast distill"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{folder} holds files of a run that cannot be read: {error}") from error
    return Run(folder, settings, summary, history)


def group(runs: Sequence[Run]) -> list[Group]:
    """By settings, in order; named after their method and the settings that set them apart from other groups."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(json.dumps(_settings(run), sort_keys=True, default=str), []).append(run)
    settings = [_settings(members[0]) for members in together.values()]
    differing = [
        name
        for name in dict.fromkeys(name for own in settings for name in own)
        if len({str(own.get(name)) for own in settings}) > 1
    ]
    return [Group(_name(members[0], differing), members) for members in together.values()]


def _settings(run: Run) -> dict[str, Any]:
    """What ``dfad-fast distill`` was told, or, of a trainer made in Python, what that was."""
    told = {k: v for k, v in run.settings.items() if k != "versions"}
    if "distill" in run.settings:
        # A run of before there was some setting had what is that setting's default now.
        told = {**asdict(DistillConfig()), **run.settings["distill"]}
    return {name: value for name, value in told.items() if name not in _OWN}


def _name(run: Run, differing: Sequence[str]) -> str:
    told = _settings(run)
    further = [f"{n}={told[n]}" for n in differing if n != "method" and told.get(n) is not None]
    return ", ".join([run.summary["method"], *further])


def print_groups(console: Console, groups: Sequence[Group]) -> None:
    """Means and, of several seeds, sample deviations, in percent."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("run", min_width=16, overflow="fold")
    for column in ("seeds", "final", "best", "agreement", "images", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for of in groups:
        table.add_row(
            Text(of.name if len(of.runs) > 1 else f"{of.name} ({of.runs[0].folder})"),
            ", ".join(str(run.summary["seed"]) for run in of.runs),
            *(
                _percent(of.values(key))
                for key in ("student_accuracy_final", "student_accuracy_best", "agreement_final")
            ),
            f"{statistics.mean(of.values('generated_images')):,.0f}",
            f"{statistics.mean(of.values('seconds_distill')):.1f}",
        )
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    console.print(table)
    for teacher in sorted({accuracy for of in groups for accuracy in of.values("teacher_accuracy")}):
        console.print(f"teacher: {100 * teacher:.2f} %", highlight=False)


def _percent(fractions: Sequence[float]) -> str:
    if not fractions:
        return "-"
    mean = f"{100 * statistics.mean(fractions):.2f}"
    return mean if len(fractions) < 2 else f"{mean} ± {100 * statistics.stdev(fractions):.2f}"


def draw(path: Path, groups: Sequence[Group]) -> None:
    """The students' accuracy over generated images, a colour a group; agreement on generated images without any."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    tested = any("student_accuracy" in record for of in groups for run in of.runs for record in run.history)
    key = "student_accuracy" if tested else "agreement_batch"
    label: str | None
    for number, of in enumerate(groups):
        label = of.name
        for run in of.runs:
            points = [(r["generated_images"], 100 * r[key]) for r in run.history if key in r]
            if points:
                axis.plot(*zip(*points, strict=True), color=f"C{number}", label=label, linewidth=1.2)
                label = None
    label = "teacher's accuracy"
    for accuracy in sorted({a for of in groups for a in of.values("teacher_accuracy")}):
        axis.axhline(100 * accuracy, color="black", linestyle=":", linewidth=1, label=label)
        label = None
    axis.set(
        xlabel="generated images",
        ylabel="test accuracy of the student, %" if tested else "agreement on generated images, %",
    )
    axis.grid(alpha=0.3)
    if axis.has_data():
        axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110, format="png")
