"""How stable a run was, from its records: collapses as they happen, and how much its student still changed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfad_fast.engine.evaluation import TestScores

ONE_CLASS = 0.95
"""The largest acceptable share of one class: beyond it, figures on these images say little about other classes."""
ALIKE = 0.02
"""Images with less variety are nearly identical, see :class:`dfad_fast.engine.evaluation.GeneratedScores`."""
_BEHIND = 0.02
"""A student may fall behind the best one by this much accuracy without a warning."""
_BY_CHANCE = 3.0
"""Or by this many standard errors of the difference, since the best one is the luckiest of many evaluations."""
_LONG = 4
"""Minimum number of evaluations for the best student to be meaningful."""

_Record = Mapping[str, Any]


@dataclass(frozen=True)
class _Sign:
    """A sign of a collapse: whether a record shows it, what it is and what to change."""

    shows: Callable[[_Record], bool]
    what: str
    advice: str


def _shows_one_class(record: _Record) -> bool:
    return record.get("largest_class_generated", 0.0) >= ONE_CLASS


def _shows_one_image(record: _Record) -> bool:
    return record.get("variety_generated", 1.0) < ALIKE


def _shows_one_answer(record: _Record) -> bool:
    """Only after the student has learned from a batch, since untrained students may also give one answer."""
    return "agreement_batch" in record and record.get("largest_class_student", 0.0) >= ONE_CLASS > record.get(
        "largest_class_teacher", 1.0
    )


_OTHER_IMAGES = (
    "try --source '0.5*procedural + 0.5*fresh', a lower --generator-lr, or a method that rewards balanced classes, "
    "such as dafl"
)
_SIGNS = (
    _Sign(
        _shows_one_class, "the teacher saw one class in nearly all held-out generated images", _OTHER_IMAGES
    ),
    _Sign(_shows_one_image, "the held-out generated images were nearly all alike", _OTHER_IMAGES),
    _Sign(
        _shows_one_answer,
        "the student gave one answer to nearly all images and the teacher did not",
        "try a lower --student-lr, another recipe, or a method without virtual samples if it has them",
    ),
)


def new_collapses(history: Sequence[_Record]) -> list[str]:
    """Warnings about collapses that the last record of ``history`` shows for the second evaluation in a row.

    A single one early in a run means nothing, and a lasting one is reported only once.
    """
    return [
        f"{sign.what}, at iterations {spell[0]} and {spell[1]}: {sign.advice}"
        for sign, spells in _spells_of_all(history)
        for spell in spells[-1:]
        if len(spell) == 2 and spell[1] == history[-1].get("iteration")
    ]


def collapses(history: Sequence[_Record]) -> list[str]:
    """All collapses of a run that lasted for two evaluations or more, one line each."""
    return [
        f"from iteration {spell[0]} to {spell[-1]} {sign.what}: {sign.advice}"
        for sign, spells in _spells_of_all(history)
        for spell in spells
        if len(spell) > 1
    ]


def fallen_behind(history: Sequence[_Record], final: TestScores) -> list[str]:
    """A line if the last student is worse on the test images than the best one by more than chance.

    ``final`` are the last student's scores.
    """
    scored = [record for record in history if "student_accuracy" in record]
    if len(scored) < _LONG:
        return []
    best = max(reversed(scored), key=lambda record: record["student_accuracy"])  # the last of equal ones
    behind = best["student_accuracy"] - final.student_accuracy
    middle = (best["student_accuracy"] + final.student_accuracy) / 2
    if behind < max(_BEHIND, _BY_CHANCE * math.sqrt(2 * middle * (1 - middle) / final.images)):
        return []
    return [
        f"the last student is {100 * behind:.1f} points behind that of iteration {best['iteration']} on the test "
        "images: try a lower --student-lr or --student-ema 0.99, or use the best student"
    ]


def deviation(history: Sequence[_Record], name: str) -> float | None:
    """The standard deviation of a figure over the evaluations in the last third of the run; None for fewer than two."""
    if not history:
        return None
    last = history[-1]["iteration"]
    values = [
        record[name]
        for record in history
        if 3 * record["iteration"] > 2 * last and math.isfinite(record.get(name, math.nan))
    ]
    return statistics.stdev(values) if len(values) > 1 else None


def _spells_of_all(history: Sequence[_Record]) -> Iterator[tuple[_Sign, list[list[int]]]]:
    """For each sign its spells: runs of consecutive evaluations that show it, as lists of iterations."""
    evaluated = [record for record in history if "largest_class_generated" in record]
    for sign in _SIGNS:
        spells: list[list[int]] = []
        shown_before = False
        for record in evaluated:
            shown = sign.shows(record)
            if shown and not shown_before:
                spells.append([])
            if shown:
                spells[-1].append(record["iteration"])
            shown_before = shown
        yield sign, spells
