"""The benchmark of whole runs: the contenders train in turns, each in a separate process, seed after seed."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.process import Entry, Process
from benchmarks.measuring.results import Results, begin
from benchmarks.measuring.settings import Settings
from benchmarks.measuring.summaries import quartiles
from benchmarks.measuring.terminal import Progress
from benchmarks.train.cases import EVALUATE_EVERY, HELD, SHARES, Contender, Job
from benchmarks.train.contestant import Point, prepare

MODULE = "benchmarks.train.contestant"


@dataclasses.dataclass
class Run:
    """The result of a contender with one seed."""

    seed: int
    teacher_accuracy: float = 0.0
    points: list[Point] = dataclasses.field(default_factory=list)
    problem: str | None = None

    def seconds_per_image(self) -> list[float]:
        """Seconds per image in each turn; skips turns in which nothing was left to generate."""
        before = [0, *(point.images for point in self.points)]
        return [
            p.seconds / (p.images - done)
            for p, done in zip(self.points, before, strict=False)
            if p.images > done
        ]

    def reached(self, share: float) -> dict[str, float] | None:
        """Seconds and images when ``share`` of the teacher's accuracy had been held for ``HELD`` evaluations; None if
        never."""
        held = 0
        for number, point in enumerate(self.points):
            held = held + 1 if point.accuracy >= share * self.teacher_accuracy else 0
            if held == HELD:
                return {"seconds": sum(p.seconds for p in self.points[: number + 1]), "images": point.images}
        return None


def run(job: Job, contenders: Sequence[Contender], settings: Settings, progress: Progress) -> Results:
    """Results as plain data. After an interrupt they contain the measurements so far.

    Raises UsageError if the dataset is missing.
    """
    results: Results = {**begin("train", settings), "job": dataclasses.asdict(job)}
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    of = 1 + len(job.seeds) * (1 + len(turns(job)))
    steps = itertools.count()

    def tell(what: str) -> None:
        progress(next(steps), of, what)

    try:
        with tempfile.TemporaryDirectory(prefix="dfad_fast_benchmark_") as scratch:
            tell("the teacher")
            prepare(job, contenders[0], job.seeds[0], settings.device, scratch)
            for seed in job.seeds:
                race(job, contenders, seed, settings, Path(scratch), tell, runs)
        results["complete"] = True
    except KeyboardInterrupt:
        pass
    results["rows"] = [
        row(job, contender, runs[contender.name]) for contender in contenders if runs[contender.name]
    ]
    return results


def race(
    job: Job,
    contenders: Sequence[Contender],
    seed: int,
    settings: Settings,
    scratch: Path,
    tell: Callable[[str], None],
    runs: dict[str, list[Run]],
) -> None:
    """Adds a run to each contender's runs, even after an interrupt."""
    entries: list[Entry] = []
    try:
        tell(f"seed {seed}: starting")
        for contender in contenders:
            # Appended one by one, so that an interrupt here leaves no process running.
            entries.append(Entry(contender.name, Process(settings, "pinned", scratch, MODULE)))
            runs[contender.name].append(Run(seed))
            entries[-1].ask("enter", job, contender, seed)
        for entry in entries:
            runs[entry.contender][-1].teacher_accuracy = (entry.answer() or {}).get("teacher_accuracy", 0.0)
        take_turns(
            job, entries, runs, lambda images: tell(f"seed {seed}: to {images:,} of {job.images:,} images")
        )
    finally:
        for entry in entries:
            entry.process.close()
            runs[entry.contender][-1].problem = entry.problem


def take_turns(
    job: Job, entries: Sequence[Entry], runs: dict[str, list[Run]], tell: Callable[[int], None]
) -> None:
    """A few iterations and an evaluation of each contender per round; each round starts with another contender."""
    for round_, images in enumerate(turns(job)):
        tell(images)
        racing = [entry for entry in entries if entry.problem is None]
        shift = round_ % len(racing) if racing else 0
        for entry in (*racing[shift:], *racing[:shift]):
            entry.ask("train", images)
            point: Point | None = entry.answer()
            if point is not None:
                runs[entry.contender][-1].points.append(point)


def turns(job: Job) -> list[int]:
    """Total number of generated images after each turn."""
    return [*range(EVALUATE_EVERY, job.images, EVALUATE_EVERY), job.images]


def row(job: Job, contender: Contender, runs: Sequence[Run]) -> dict[str, Any]:
    """The results of a contender over all seeds."""
    problem = next((run.problem for run in runs if run.problem), None)
    described: dict[str, Any] = {
        "pair": job.dataset,
        "race": "train",
        "allocator": "pinned",
        "contender": contender.name,
        "loop": contender.loop,
        "method": contender.method,
        "problem": problem,
        "seeds": [run.seed for run in runs],
        "teacher_accuracy": runs[0].teacher_accuracy,
        "curves": [[dataclasses.asdict(point) for point in run.points] for run in runs],
    }
    # An interrupted run has no final accuracy.
    runs = [run for run in runs if len(run.points) == len(turns(job))]
    if problem is not None or not runs:
        return described
    seconds = [value for run in runs for value in run.seconds_per_image()]
    first, median, third = quartiles(seconds)
    return {
        **described,
        "seconds": seconds,
        "median_seconds": median,
        "first_quartile_seconds": first,
        "third_quartile_seconds": third,
        "runs": len(seconds),
        "run_seconds": [sum(point.seconds for point in run.points) for run in runs],
        "images": runs[0].points[-1].images,
        "final_accuracies": [run.points[-1].accuracy for run in runs],
        "best_accuracies": [max(point.accuracy for point in run.points) for run in runs],
        "reached": {f"{share:.0%}": [run.reached(share) for run in runs] for share in SHARES},
    }
