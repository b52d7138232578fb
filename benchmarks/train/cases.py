"""The contenders of ``run.py train``: the published loop and every method, for the same number of generated images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfad_fast.methods import METHODS
from dfad_fast.sources import Bank

SHARES = (0.90, 0.95, 0.97)  # shares of the teacher's accuracy to reach
HELD = 3  # consecutive evaluations for which a share must be held
EVALUATE_EVERY = 3_840  # generated images; five iterations of dfad with batches of 128
DATASETS = ("digits", "fashion-mnist")

NEW_IMAGES = [
    name
    for name, method in METHODS.items()
    if not any(isinstance(part, Bank) for part in method.source_spec.walk())
]
"""The methods whose student learns from new images in each step. With the same images other runs have other lengths."""


@dataclass(frozen=True)
class Contender:
    """A method, run by the published loop or by this library's exact trainer."""

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
    """The run that every contender performs.

    Attributes:
        teachers: folder of the trained teachers, as for ``dfad-fast distill``.
        teacher_epochs: None for the dataset's default.
        images: number of images that every run generates in student and generator steps, within one iteration.
        seeds: seeds of the runs.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    teachers: str = "runs/teachers"
    teacher_epochs: int | None = None
    images: int = 70 * EVALUATE_EVERY
    seeds: tuple[int, ...] = (0, 1, 2)
