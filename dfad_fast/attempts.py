"""Several things that are to be done at the end of a run, of which one that fails costs no other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeVar

from dfad_fast.distributed import processes
from dfad_fast.errors import RunError, in_one_line, with_kind

T = TypeVar("T")


class Attempts:
    """What was tried and failed, as names with reasons; as text in one line, equal reasons said once."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def attempt(self, name: str, do: Callable[[], T], together: bool = False) -> T | None:
        """What ``do`` returns; None where it fails. ``together``: whether all processes of the run do it. With
        several, errors are raised then, since the others would wait."""
        try:
            return do()
        except Exception as error:
            if together and processes.count() > 1:
                raise
            self.failures.append((name, _reason(error)))
            return None

    def __str__(self) -> str:
        reasons = dict.fromkeys(reason for _, reason in self.failures)
        return "; ".join(
            f"{', '.join(name for name, own in self.failures if own == reason)} ({reason})"
            for reason in reasons
        )


def _reason(error: Exception) -> str:
    """The system's, where that is why a file could not be written: it is the same for several files."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if number := re.search(r"\(os error (\d+)\)", str(cause)):  # as safetensors says it
        return os.strerror(int(number[1]))
    said = in_one_line(error)
    return said if isinstance(error, RunError) else with_kind(error, said)
