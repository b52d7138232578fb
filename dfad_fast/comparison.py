"""Compares runs: a table and a picture of their results, grouped by settings with seeds averaged."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dfad_fast.jobs.settings import DistillSettings, as_plain, distill_settings
from dfad_fast.runs.record import EndedRun
from dfad_fast.runs.resuming import with_replay_beside
from dfad_fast.runs.summary import Summary

_LONGEST_LABEL = 50  # characters
_WIDE = 200  # columns of a table that goes to a file


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seeds; ``name`` describes their settings."""

    name: str
    runs: list[EndedRun]

    def values(self, figure: Callable[[Summary], float | None]) -> list[float]:
        """A figure from each run's summary; empty if any run lacks it."""
        found = [figure(run.summary) for run in self.runs]
        return [value for value in found if value is not None] if None not in found else []


def group_runs(runs: Sequence[EndedRun]) -> list[Group]:
    """Groups runs by settings, in order. Groups are named by method and the settings in which they differ."""
    together: dict[str, list[EndedRun]] = {}
    for run in runs:
        together.setdefault(json.dumps(_settings(run), sort_keys=True, default=str), []).append(run)
    settings = [_settings(members[0]) for members in together.values()]
    differing = [
        name
        for name in dict.fromkeys(name for own in settings for name in own)
        if len({str(own.get(name)) for own in settings}) > 1
    ]
    return [Group(_name(members[0], differing), members) for members in together.values()]


def _settings(run: EndedRun) -> dict[str, Any]:
    """The settings of ``dfad-fast distill``, or of a trainer created in Python."""
    told = {k: v for k, v in with_replay_beside(run.config).items() if k != "versions"}
    if "distill" in run.config:
        # A setting newer than the run counts as its current default.
        told = {**as_plain(DistillSettings()), **run.config["distill"]}
    own = {name for name, setting in distill_settings().items() if not setting.changes_result}
    own |= {"seed", "best_by"}  # the best accuracy is the highest one, whichever student the run keeps
    return {name: value for name, value in told.items() if name not in own}


def _name(run: EndedRun, differing: Sequence[str]) -> str:
    told = _settings(run)
    further = [f"{n}={told[n]}" for n in differing if n != "method" and told.get(n) is not None]
    return ", ".join([run.summary.method, *further])


def print_groups(console: Console, groups: Sequence[Group]) -> None:
    """Prints means and, for several seeds, sample deviations, in percent."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("run", min_width=16, overflow="fold")
    for column in (
        *("seeds", "final", "best", "agreement"),
        *("held-out", "discrepancy", "classes", "images", "seconds"),
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(
            Text(group.name if len(group.runs) > 1 else f"{group.name} ({group.runs[0].folder})"),
            ", ".join(str(run.summary.seed) for run in group.runs),
            _percent(group.values(lambda summary: summary.student_accuracy_final)),
            _percent(group.values(lambda summary: summary.student_accuracy_best)),
            _percent(group.values(lambda summary: summary.agreement_final)),
            _percent(group.values(lambda summary: summary.agreement_generated)),
            _mean(group.values(lambda summary: summary.discrepancy_generated), ".3f"),
            _classes(group),
            f"{statistics.mean(run.summary.generated_images for run in group.runs):,.0f}",
            f"{statistics.mean(run.summary.seconds_distill for run in group.runs):.1f}",
        )
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    console.print(table)
    console.print(
        "final, best and agreement are measured on test images; held-out (the agreement there), discrepancy and "
        "classes (the effective number that the teacher sees) on generated images that no step trained on.",
        highlight=False,
    )
    for teacher in _teacher_accuracies(groups):
        console.print(f"teacher: {100 * teacher:.2f} %", highlight=False)
    for run in (run for group in groups for run in group.runs):
        for notice in run.summary.notices:
            console.print(f"note, {run.folder}: {notice}", highlight=False, markup=False, soft_wrap=True)


def _teacher_accuracies(groups: Sequence[Group]) -> list[float]:
    """The distinct accuracies of the groups' teachers."""
    found = (group.values(lambda summary: summary.teacher_accuracy) for group in groups)
    return sorted({accuracy for accuracies in found for accuracy in accuracies})


def _percent(fractions: Sequence[float]) -> str:
    return _mean([100 * fraction for fraction in fractions], ".2f")


def _mean(values: Sequence[float], digits: str) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):{digits}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):{digits}}"


def _classes(group: Group) -> str:
    known = group.runs[0].summary.classes
    found = _mean(group.values(lambda summary: summary.effective_classes_generated), ".1f")
    return found if found == "-" or known is None else f"{found} of {known}"


def draw_groups(path: Path, groups: Sequence[Group]) -> None:
    """Plots agreement on held-out generated images, which every run has, and accuracy if there are test images.

    The accuracy is the students'. The x axis counts generated images; each group has one color.
    """
    from matplotlib.figure import Figure

    tested = any(
        "student_accuracy" in record for group in groups for run in group.runs for record in run.history
    )
    panels = [("agreement_generated", "agreement on held-out generated images, %")]
    if tested:
        panels.insert(0, ("student_accuracy", "test accuracy of the student, %"))
    figure = Figure(figsize=(9 if len(panels) == 1 else 14, 5), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    label: str | None
    for axis, (key, name) in zip(axes, panels, strict=True):
        for number, group in enumerate(groups):
            label = _label(group)
            for run in group.runs:
                if points := _points(run, key):
                    axis.plot(*zip(*points, strict=True), color=f"C{number}", label=label, linewidth=1.2)
                    label = None
        axis.set(xlabel="generated images", ylabel=name)
    label = "teacher's accuracy"
    for accuracy in _teacher_accuracies(groups) if tested else ():
        axes[0].axhline(100 * accuracy, color="black", linestyle=":", linewidth=1, label=label)
        label = None
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110, format="png")


def _label(group: Group) -> str:
    """The group's name for the legend. A long name is shortened to one line, with the folder added."""
    if len(group.name) <= _LONGEST_LABEL:
        return group.name
    return f"{group.name[:_LONGEST_LABEL]}... ({group.runs[0].folder.name})"


def _points(run: EndedRun, key: str) -> list[tuple[float, float]]:
    """Generated images and percent. Older versions recorded agreement only on batches."""
    if key == "agreement_generated" and not any(key in record for record in run.history):
        key = "agreement_batch"
    return [(r["generated_images"], 100 * r[key]) for r in run.history if key in r]
