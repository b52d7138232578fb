"""Numbers as the page shows them, with no line break before the unit. Values that are not numbers become a dash."""

from __future__ import annotations

from typing import Any

from dfad_fast import wording
from dfad_fast.runs.record import is_number

NOTHING = "\u2013"
_NO_BREAK = "\u00a0"


def percent(value: Any) -> str:
    """A fraction as a percentage, or a dash for none."""
    return wording.percent(value).replace(" ", _NO_BREAK) if is_number(value) else NOTHING


def count(value: Any) -> str:
    """A whole number with separators, or a dash for none."""
    return f"{value:,}" if is_number(value) else NOTHING


def decimal(value: Any) -> str:
    """A number with four digits, or a dash for none."""
    return f"{value:.4g}" if is_number(value) else NOTHING


def short(value: float) -> str:
    """For an axis: 250k, 1.5M, 0.001."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def duration(value: Any) -> str:
    """Such as "3 h 25 min", "4 min 05 s" and "2.5 s"."""
    if not is_number(value):
        return NOTHING
    hours, minutes, seconds = wording.hours_minutes_seconds(value)
    if hours:
        return f"{hours}{_NO_BREAK}h {minutes:02}{_NO_BREAK}min"
    return f"{minutes}{_NO_BREAK}min {seconds:02}{_NO_BREAK}s" if minutes else f"{value:.1f}{_NO_BREAK}s"


def size(value: int) -> str:
    """Bytes as MiB or KiB."""
    return f"{value / 2**20:,.1f} MiB" if value >= 2**20 else f"{value / 2**10:,.1f} KiB"
