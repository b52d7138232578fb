"""The exported student, and the metadata needed to use it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfad_fast.jobs.networks import build_student, student_name
from dfad_fast.jobs.trained_run import TrainedRun
from dfad_fast.models.reading.check import example_images
from dfad_fast.models.surgery.adapting import adapted
from dfad_fast.models.surgery.wrappers import unwrapped
from dfad_fast.version import __version__

_NORMALIZATION = "(pixel from 0 to 1 - mean) / std, per channel"
_UNKNOWN_NORMALIZATION = "the same as for the teacher's images; the run does not record it"


@dataclass(frozen=True)
class Student:
    """The student of ``run``, on the CPU: its moving average if ``averaged``, the best one if ``best``."""

    run: TrainedRun
    averaged: bool
    best: bool
    compressed: str | None = None
    """How, where it was compressed."""

    @property
    def network(self) -> nn.Module:
        """The run's own network, with its weights."""
        return self.run.networks.student

    def example(self) -> Tensor:
        """Two images [2, C, H, W], because exporters treat a batch size of one as a constant."""
        return example_images(self.network, self.run.image_shape)

    def rebuilt(self) -> nn.Module:
        """A new network of the same architecture with its own weights, in eval mode and the same memory format."""
        network = build_student(self.run.config, self.run.image_shape, self.run.networks.classes).eval()
        needs = self.run.networks.needs["student"]
        if not needs.contiguous:
            network.to(memory_format=torch.channels_last)
        return adapted(unwrapped(network), needs)

    def metadata(self) -> dict[str, str]:
        """Metadata for the file. Values that are not text are JSON; mean and std are null if the run lacks them."""
        run = self.run
        return {
            "dfad_fast": __version__,
            "method": run.method,
            "student": re.split(r"[/\\]", student_name(run.config))[-1],  # without local paths
            "averaged": json.dumps(self.averaged),
            "best": json.dumps(self.best),
            **({"compressed": self.compressed} if self.compressed else {}),
            "image_shape": json.dumps(run.image_shape),
            "classes": json.dumps(run.networks.classes),
            "mean": json.dumps(run.mean),
            "std": json.dumps(run.std),
            "normalization": _NORMALIZATION if run.mean else _UNKNOWN_NORMALIZATION,
        }
