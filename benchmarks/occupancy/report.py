"""The table of ``run.py occupancy``."""

from __future__ import annotations

from typing import Any

from benchmarks.measuring.tables import Sheet, size
from benchmarks.occupancy.compiled import BYTES
from benchmarks.occupancy.devices import DEVICES, LATENCY

COLUMNS = (
    "kernel",
    "",
    "registers",
    "spilled",
    "blocks",
    *(f"on their way, {dtype}" for dtype in BYTES),
    "wanted",
)


def note() -> str:
    devices = ", ".join(
        f"{name} the {device.name} ({device.bandwidth / 1e12:.3g} TB/s, {device.multiprocessors} multiprocessors)"
        for name, device in DEVICES.items()
    )
    return (
        "Per multiprocessor: blocks of 256 threads that it holds, and bytes that their loads have on their way. "
        f"Wanted: bandwidth times a latency of {1e9 * LATENCY:.0f} ns, which is an assumption. {devices}. "
        "Registers and bytes spilled are those of ptxas for nvcc's PTX; nothing was run."
    )


def sheet(rows: list[dict[str, Any]]) -> Sheet:
    lines = tuple(
        (
            row["kernel"],
            row["architecture"],
            str(row["registers"]),
            str(row["spilled"]),
            str(row["blocks"]),
            *(size(row[dtype]) for dtype in BYTES),
            size(row["wanted"]),
        )
        for row in rows
    )
    return Sheet("What of the CUDA kernels a multiprocessor holds", COLUMNS, lines)
