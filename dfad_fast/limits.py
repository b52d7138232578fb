"""The numbers that a setting may be: beyond them is a slip of the keyboard, or more than any machine can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dfad_fast.errors import UsageError

_MOST = 2**63 - 1


class Limits(NamedTuple):
    least: float
    most: float
    above: bool = False
    """Whether it must be more than ``least``."""


_LIMITS = {
    # Beyond it torch takes seeds modulo 2**64, so that several would be the same.
    **dict.fromkeys(("seed", "teacher_seed"), Limits(0, _MOST)),
    **dict.fromkeys(("iterations", "images", "checkpoint_iterations"), Limits(1, _MOST)),
    **dict.fromkeys(("teacher_epochs", "epochs"), Limits(1, 10**9)),
    "classes": Limits(2, 10**7),
    "latent_dim": Limits(1, 10**6),
    "batch_size": Limits(2, 10**7),
    "batch_per_process": Limits(2, 10**7),
    "replay": Limits(-math.inf, 10**6),
    "keep_checkpoints": Limits(1, 1000),
    "checkpoint_seconds": Limits(0, math.inf),
    "process_timeout": Limits(0, 10**8, above=True),
    **dict.fromkeys(("student_lr", "generator_lr"), Limits(0, 10**9, above=True)),
    "threads": Limits(1, 1024),
    **dict.fromkeys(("samples", "calibration_images"), Limits(-math.inf, 10**6)),
}


def refuse_beyond(settings: Mapping[str, Any], named: Callable[[str], str]) -> None:
    """Raises UsageError for a number that a setting may not be, under the name that ``named`` gives the setting. None
    is no number."""
    for name, value in settings.items():
        if name in _LIMITS and value is not None and (problem := _problem(_LIMITS[name], value)):
            raise UsageError(f"{named(name)} must be {problem}, got {value}")


def _problem(limits: Limits, value: float) -> str | None:
    if limits.above and not value > limits.least:
        return f"> {limits.least}"
    if not value >= limits.least:
        return f"at least {limits.least}"
    if not value <= limits.most:
        return f"at most {limits.most}"
    return None


def as_option(name: str) -> str:
    """The setting as it is called on the command line."""
    return f"--{name.replace('_', '-')}"
