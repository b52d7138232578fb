"""What ``run.py train`` races: the published loop and every method, each until it generated as many images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfad_fast.methods import METHODS
from dfad_fast.sources import Bank

SHARES = (0.90, 0.95, 0.97)  # of the teacher's accuracy
HELD = 3  # evaluations in a row
EVALUATE_EVERY = 3_840  # generated images; five iterations of dfad at a batch of 128
DATASETS = ("digits", "fashion-mnist")

NEW_IMAGES = [
    name
    for name, method in METHODS.items()
    if not any(isinstance(part, Bank) for part in method.source_spec.walk())
]
"""The methods whose student learns from new images in each step: the others' runs are not as long with as many."""


@dataclass(frozen=True)
class Contender:
    """A method, by the published loop or by this library's exact trainer."""

    loop: Literal["faithful", "trainer"]
    method: str
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{'faithful' if self.loop == 'faithful' else 'exact'} {self.method}"


CONTENDERS = (
    Contender("faithful", "dfad", quick=True),
    *(Contender("trainer", method, quick=method in ("dfad", "dfad-ar-vi-bn")) for method in NEW_IMAGES),
)


@dataclass(frozen=True)
class Job:
    """A run that every contender makes.

    Attributes:
        teachers: folder of the trained teachers, as for ``dfad-fast distill``.
        teacher_epochs: None is the dataset's.
        images: that every run generates, in its student's and its generator's steps; an iteration more or less.
        seeds: of the runs.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    teachers: str = "runs/teachers"
    teacher_epochs: int | None = None
    images: int = 70 * EVALUATE_EVERY
    seeds: tuple[int, ...] = (0, 1, 2)
