"""What a run tells those who listen to it. None of them holds the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dfad_fast.runs.summary import Summary


class LabeledSamples(NamedTuple):
    """Generated images [N, C, H, W] from 0 to 1 on the CPU, shrunk where they are large, and the teacher's and the
    student's labels [N]. ``size``: their height and width before that."""

    images: Tensor
    teacher: Tensor
    student: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class Started:
    """The run begins, or goes on after ``iteration`` iterations, to iteration ``target``."""

    folder: Path | None
    """None without a folder, and in all processes of a run but the first."""
    iteration: int
    target: int
    history: Sequence[Mapping[str, Any]]
    """The records so far."""


@dataclass(frozen=True)
class Stepped:
    """One more iteration is done."""

    iteration: int


@dataclass(frozen=True)
class Recorded:
    """A record of metrics.jsonl was made."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Sampled:
    """The moment of a sheet of generated images."""

    iteration: int
    generated_images: int
    samples: LabeledSamples


@dataclass(frozen=True)
class Ended:
    """The run came to its end or was stopped. ``samples`` is None where a network failed on them."""

    iteration: int
    generated_images: int
    summary: Summary
    history: Sequence[Mapping[str, Any]]
    samples: LabeledSamples | None


@dataclass(frozen=True)
class Failed:
    """An error ends the run. Its folder holds the last good state, or no more than the last checkpoint."""

    error: Exception


class Callback:
    """Listens to a run; every method may be left out.

    ``started`` comes first and ``closed`` last, however the run ends. Each process of several has callbacks of its own;
    ``sampled``, ``ended`` and ``failed`` come in the first one only, and where the run has a folder. An exception ends
    the run, which can go on from its last checkpoint; in ``told`` it costs the scores that it told of.
    """

    def started(self, event: Started) -> None: ...

    def stepped(self, event: Stepped) -> None:
        """Comes after every iteration: must be cheap."""

    def recorded(self, event: Recorded) -> None: ...

    def sampled(self, event: Sampled) -> None: ...

    def told(self, text: str) -> None:
        """A line that says how far the scores at the end are."""

    def ended(self, event: Ended) -> None: ...

    def failed(self, event: Failed) -> None: ...

    def closed(self, failed: bool) -> None: ...
