"""Numbers in sentences."""

from __future__ import annotations


def counted(number: float, thing: str, plural: str = "") -> str:
    """Such as "1 iteration" and "2,000 iterations"."""
    return f"{number:,} {thing if number == 1 else plural or f'{thing}s'}"


def clock(seconds: float) -> str:
    """Such as "0:42 min" and "3:25 h"."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours:,}:{minutes_left:02} h" if hours else f"{minutes}:{left:02} min"
