"""Line charts over a run as the geometry of an SVG drawing, which the page's template renders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dfad_fast.reporting.report_page.numbers import decimal, short

WIDTH, HEIGHT = 520, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 42
_MOST_POINTS = 300  # per line: more cannot be distinguished
_LOGARITHMIC_FROM = 20.0  # ratio of the largest to the smallest value


@dataclass(frozen=True)
class Line:
    """A named line of points (x, y); ``style`` is "", "faint" or "dotted"."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = ""


def chart(
    title: str,
    x_label: str,
    lines: Sequence[Line],
    say: Callable[[float], str] = decimal,
    logarithmic: bool = False,
    notes: dict[float, str] | None = None,
    last: bool = True,
) -> dict[str, Any] | None:
    """The chart for the template and the page's script; None if no line has a point.

    Args:
        title: the heading.
        x_label: what the x-axis counts.
        lines: what is drawn; lines without points are left out.
        say: formats a value for legend and pointer.
        logarithmic: whether to use a logarithmic y-axis if all values are positive and their range is large enough.
        notes: additional text for some x, for the pointer.
        last: whether the legend shows the last values.
    """
    lines = [Line(line.name, _thinned(line.points), line.style) for line in lines if line.points]
    if not lines:
        return None
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    by_magnitude = logarithmic and min(ys) > 0 and max(ys) / min(ys) >= _LOGARITHMIC_FROM
    x_range = min(0.0, *xs), max(xs)
    x_ticks = _ticks(*x_range)
    y_ticks = _magnitudes(min(ys), max(ys)) if by_magnitude else _ticks(min(ys), max(ys))
    if x_range[0] == x_range[1]:
        x_range = x_ticks[0], x_ticks[-1]
    scale = math.log10 if by_magnitude else float
    y_range = min(*y_ticks, *ys), max(*y_ticks, *ys)

    def place_x(x: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (x - x_range[0]) / (x_range[1] - x_range[0]), 1)

    def place_y(y: float) -> float:
        low, high = scale(y_range[0]), scale(y_range[1])
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (scale(y) - low) / (high - low), 1)

    return {
        "title": title,
        "x_label": x_label + ("; logarithmic scale" if by_magnitude else ""),
        "box": {"left": _LEFT, "right": WIDTH - _RIGHT, "top": _TOP, "bottom": HEIGHT - _BOTTOM},
        "x_ticks": [(place_x(x), short(x)) for x in x_ticks if x_range[0] <= x <= x_range[1]],
        "y_ticks": [(place_y(y), say(y).replace(".00\u00a0%", "\u00a0%")) for y in y_ticks],
        "lines": [
            {
                "name": line.name,
                "style": line.style,
                "path": "M" + "L".join(f"{place_x(x):g} {place_y(y):g}" for x, y in line.points),
                "dot": [place_x(line.points[0][0]), place_y(line.points[0][1])]
                if len(line.points) == 1
                else None,
                "last": say(line.points[-1][1]) if last else None,
            }
            for line in lines
        ],
        "pointer": [[[place_x(x), place_y(y), say(y)] for x, y in line.points] for line in lines],
        "moments": [[place_x(x), (notes or {}).get(x) or f"{x_label} {x:g}"] for x in sorted(set(xs))],
    }


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Evenly thinned out; the first and last points stay."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    step = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(_MOST_POINTS)]


def _ticks(low: float, high: float) -> list[float]:
    """Between 4 and 7 round values from below ``low`` to above ``high``."""
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    magnitude = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(s for s in (magnitude, 2 * magnitude, 5 * magnitude, 10 * magnitude) if (high - low) / s <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _magnitudes(low: float, high: float) -> list[float]:
    """Powers of ten from below ``low`` to above ``high``.

    If they are few, also 2 and 5 times them; if they are many, every second or third.
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 3:
        step = -(-(last - first) // 6)
        return [10.0**i for i in range(first, last + 1, step)]
    between = [float(f"{m}e{i}") for i in range(first, last + 1) for m in (1, 2, 5)]
    below = max(tick for tick in between if tick <= low * (1 + 1e-9))
    above = min(tick for tick in between if tick >= high * (1 - 1e-9))
    return [tick for tick in between if below <= tick <= above]
