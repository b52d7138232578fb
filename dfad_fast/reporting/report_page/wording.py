"""Numbers as people read them, with no line break before their unit. What is no number is a dash."""

from __future__ import annotations

from typing import Any

from dfad_fast.runs.record import is_number

NOTHING = "\u2013"


def percent(value: Any) -> str:
    return f"{100 * value:.2f}\u00a0%" if is_number(value) else NOTHING


def count(value: Any) -> str:
    return f"{value:,}" if is_number(value) else NOTHING


def decimal(value: Any) -> str:
    return f"{value:.4g}" if is_number(value) else NOTHING


def short(value: float) -> str:
    """For an axis: 250k, 1.5M, 0.001."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def duration(value: Any) -> str:
    if not is_number(value):
        return NOTHING
    seconds = round(value)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours}\u00a0h {minutes:02}\u00a0min"
    return f"{minutes}\u00a0min {seconds % 60:02}\u00a0s" if minutes else f"{value:.1f}\u00a0s"


def size(value: int) -> str:
    return f"{value / 2**20:,.1f} MiB" if value >= 2**20 else f"{value / 2**10:,.1f} KiB"
