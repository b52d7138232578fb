"""Several actions at the end of a run, each tried even if another one failed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeVar

from dfad_fast.distributed import processes
from dfad_fast.errors import RunError, in_one_line, with_kind

T = TypeVar("T")


class Attempts:
    """Collects failures as names with reasons. As text they are one line, with equal reasons given once."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def attempt(self, name: str, do: Callable[[], T], together: bool = False) -> T | None:
        """Returns what ``do`` returns, or None if it fails.

        ``together``: whether all processes of the run do this. If so and there are several, errors are raised, since
        the other processes would wait.
        """
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
    """The system's reason if a file could not be written, since it is the same for several files."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if number := re.search(r"\(os error (\d+)\)", str(cause)):  # the form that safetensors uses
        return os.strerror(int(number[1]))
    said = in_one_line(error)
    return said if isinstance(error, RunError) else with_kind(error, said)
