"""One contender of ``run.py train`` in its own process: it trains for a number of images on request."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.faithful import OBJECTIVES, FaithfulLoop
from benchmarks.measuring.timing import timed
from benchmarks.train.cases import Contender, Job
from dfad_fast.engine.evaluation import TestSet
from dfad_fast.jobs import distill
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.profiling.timeline import clock_of


@dataclass(frozen=True)
class Point:
    """The state of a run: iterations and generated images so far, seconds of the last turn, accuracy after it."""

    iteration: int
    images: int
    seconds: float
    accuracy: float


def prepare(job: Job, contender: Contender, seed: int, device: str, folder: str) -> distill.Job:
    """The run as ``dfad-fast distill`` prepares it. It trains the teacher if there is none yet."""
    config = DistillSettings(
        dataset=job.dataset, data_dir=job.data_dir, teachers=job.teachers, teacher_epochs=job.teacher_epochs,
        method=contender.method, images=job.images, speed="exact", seed=seed, device=device, out=folder,
        student_init="random",
    )  # fmt: skip
    return distill.prepare(config, overwrite=True)


class TrainContestant:
    """A run from its first to its last iteration."""

    def __init__(self, job: Job, contender: Contender, seed: int, device: str) -> None:
        self._clock = clock_of(torch.device(device))
        with tempfile.TemporaryDirectory() as folder:
            prepared = prepare(job, contender, seed, device, folder)
        trainer = prepared.trainer
        assert prepared.evaluate is not None
        self._tests = TestSet(trainer.networks.teacher, prepared.evaluate)
        self._student = trainer.networks.student
        self._loop: Any = trainer
        if contender.loop == "faithful":
            self._loop = FaithfulLoop(trainer, OBJECTIVES[contender.method])
            self._student = self._loop.student
        self._loop.planned_iterations = self._planned = prepared.iterations

    def prepare(self) -> dict[str, float]:
        """Facts that are known before the first iteration."""
        return {"teacher_accuracy": self._tests.scores(self._student).teacher_accuracy or 0.0}

    def train(self, images: int) -> Point:
        """Trains until the run has generated ``images`` images in total. Only the iterations are timed."""

        def run() -> None:
            while self._loop.generated_images < images and self._loop.iteration < self._planned:
                self._loop.step()

        seconds = timed(run, self._clock)
        accuracy = self._tests.scores(self._student).student_accuracy
        return Point(self._loop.iteration, self._loop.generated_images, seconds, accuracy)


def enter(job: Job, contender: Contender, seed: int, device: str) -> TrainContestant:
    return TrainContestant(job, contender, seed, device)
