"""Several things that are to be saved, of which one that fails costs no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dfad_fast import processes
from dfad_fast.errors import in_one_line

T = TypeVar("T")


class Attempts:
    """What was tried and failed, as names with reasons; as text in one line, equal reasons said once."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def attempt(self, name: str, do: Callable[[], T]) -> T | None:
        """What ``do`` returns; None where it fails, unless because another process of the run is lost."""
        try:
            return do()
        except Exception as error:
            if lost := processes.as_lost(error):
                raise lost from error
            self.failures.append((name, _reason(error)))
            return None

    def __str__(self) -> str:
        reasons = dict.fromkeys(reason for _, reason in self.failures)
        return "; ".join(
            f"{', '.join(name for name, own in self.failures if own == reason)} ({reason})"
            for reason in reasons
        )


def _reason(error: BaseException) -> str:
    """That of the system, where it is why a file could not be written: it is the same for several files."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    kind = type(error).__name__
    said = in_one_line(error)
    return said if said == kind else f"{kind}: {said}"
