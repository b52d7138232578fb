"""The events of a run, for its callbacks. No event holds the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dfad_fast.runs.summary import Summary


class LabeledSamples(NamedTuple):
    """Generated images [N, C, H, W] from 0 to 1 on the CPU, with the teacher's and the student's labels [N].

    Large images are shrunk. ``size``: height and width before that.
    """

    images: Tensor
    teacher: Tensor
    student: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class Started:
    """The run starts, or resumes after ``iteration`` iterations, and will end at iteration ``target``."""

    folder: Path | None
    """None without a folder, and in every process but the first."""
    iteration: int
    target: int
    history: Sequence[Mapping[str, Any]]
    """The records so far."""


@dataclass(frozen=True)
class Stepped:
    """An iteration has ended."""

    iteration: int


@dataclass(frozen=True)
class Recorded:
    """A record was added to metrics.jsonl."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Sampled:
    """Generated images for a sheet are available."""

    iteration: int
    generated_images: int
    samples: LabeledSamples


@dataclass(frozen=True)
class Ended:
    """The run reached its end or was stopped. ``samples`` is None if a network failed on them."""

    iteration: int
    generated_images: int
    summary: Summary
    history: Sequence[Mapping[str, Any]]
    samples: LabeledSamples | None


@dataclass(frozen=True)
class Failed:
    """An error ends the run. Its folder holds the last good state, or only the last checkpoint."""

    error: Exception


class Callback:
    """Receives the events of a run; every method is optional.

    ``started`` comes first and ``closed`` last, however the run ends. Each process has its own callbacks; ``sampled``,
    ``ended`` and ``failed`` come only in the first process, and only if the run has a folder. An exception ends the
    run after its state was saved (with several processes: its last checkpoint is kept); an exception in ``told`` only
    loses the scores being measured. KeyboardInterrupt and SystemExit end the run like Ctrl-C.
    """

    def started(self, event: Started) -> None:
        """Called first, before the first iteration."""

    def stepped(self, event: Stepped) -> None:
        """Called after every iteration, so it must be cheap."""

    def recorded(self, event: Recorded) -> None:
        """Receives each record of metrics.jsonl."""

    def sampled(self, event: Sampled) -> None:
        """Receives a sheet of generated images."""

    def told(self, text: str) -> None:
        """Receives a line of text about the progress of the final scores."""

    def ended(self, event: Ended) -> None:
        """Called when the run reaches its end or is stopped."""

    def failed(self, event: Failed) -> None:
        """Called when an error ends the run."""

    def closed(self, failed: bool) -> None:
        """Called last; ``failed`` says whether an error ended the run."""
