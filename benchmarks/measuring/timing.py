"""Times a call with the device's clock."""

from __future__ import annotations

from collections.abc import Callable

from dfad_fast.profiling.timeline import Clock


def timed(call: Callable[[], object], clock: Clock) -> float:
    """Seconds of one call until the device is done."""
    first = clock.read()
    call()
    last = clock.read()
    clock.wait()
    return clock.between(first, last)
