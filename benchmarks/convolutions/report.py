"""The table of ``run.py convolutions``."""

from __future__ import annotations

from typing import Any

from benchmarks.convolutions.races import WAYS
from benchmarks.measuring.tables import Sheet, duration

_LETTERS = {"direct": "d", "tiled": "t", "winograd": "w"}


def sheet(rows: list[dict[str, Any]]) -> Sheet:
    columns = ("layer", *(f"{way}: torch, times its speed" for way in WAYS))
    lines = tuple((row["name"], *(_cell(row["ways"][way]) for way in WAYS)) for row in rows)
    return Sheet("Convolutions of 128 images in channels_last memory", columns, lines)


def _cell(way: dict[str, Any]) -> str:
    seconds, chosen = way["seconds"], way["chosen"]
    torchs = duration(seconds["torch"])
    parts = [f"**{torchs}**" if chosen == "torch" else torchs]
    for algorithm, letter in _LETTERS.items():
        if algorithm in seconds:
            text = f"{letter} {seconds['torch'] / seconds[algorithm]:.2f}"
            parts.append(f"**{text}**" if chosen == algorithm else text)
    return " ".join(parts)
