"""Numbers in sentences and tables."""

from __future__ import annotations


def counted(number: float, thing: str, plural: str = "") -> str:
    """Such as "1 iteration" and "2,000 iterations"."""
    return f"{number:,} {thing if number == 1 else plural or f'{thing}s'}"


def percent(fraction: float | None) -> str:
    """Such as "98.67 %"; a dash for None, which was not measured."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def clock(seconds: float) -> str:
    """Such as "0:42 min" and "3:25 h"."""
    hours, minutes, left = hours_minutes_seconds(seconds)
    return f"{hours:,}:{minutes:02} h" if hours else f"{minutes}:{left:02} min"


def hours_minutes_seconds(seconds: float) -> tuple[int, int, int]:
    """Rounded to whole seconds."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, left
