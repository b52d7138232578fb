"""Our measurements in a result file, with the controls: baseline contenders that ran in the same rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.measuring.results import OURS, Results
from benchmarks.ops.contenders import CEILINGS
from benchmarks.ops.heats import heats


@dataclass(frozen=True)
class Measurement:
    """A measurement of ours by round, with the controls that ran in the same rounds."""

    name: tuple[str, str]
    rounds: Sequence[float]
    controls: dict[str, Sequence[float]] = field(default_factory=dict)
    processes: Sequence[float] = ()  # median of each process, if ours ran in several at once
    kin: str = ""  # group of measurements with the same deviation between processes

    def relative(self, controls: Sequence[str]) -> list[float]:
        """By round, the logarithm of our time over the geometric mean of ``controls``."""
        columns = [self.rounds, *(self.controls[name] for name in controls)]
        logs = [[math.log(value) for value in row] for row in zip(*columns, strict=False)]
        return [row[0] - (statistics.mean(row[1:]) if controls else 0.0) for row in logs]

    @property
    def apart(self) -> float | None:
        """The difference between two processes of ours as a logarithm; None if there is only one."""
        if len(self.processes) != 2:
            return None
        return abs(math.log(self.processes[0] / self.processes[1]))


def measurements(results: Results) -> Iterator[Measurement]:
    """All our measurements in a file."""
    if results["kind"] == "ops":
        yield from _of_ops(results)
    elif results["kind"] == "instructions":
        for row in results["rows"]:
            yield Measurement((row["case"], row["mode"]), [row["instructions"]])
    else:
        yield from _of_loops(results)


def _of_ops(results: Results) -> Iterator[Measurement]:
    for heat in heats(results):
        if ours := heat.rows.get(OURS):
            controls = {
                name: row["round_medians_seconds"]
                for name, row in heat.rows.items()
                if name not in (OURS, *CEILINGS)
            }
            mode = heat.mode if heat.allocator == "pinned" else f"{heat.mode}, default allocator"
            processes = ours.get("process_medians_seconds", ())  # older files have one process
            yield Measurement(
                (heat.case, mode), ours["round_medians_seconds"], controls, processes, ours["op"]
            )


def _of_loops(results: Results) -> Iterator[Measurement]:
    """Measurements of whole iterations: the trainer, with the published loop as control."""
    rows = [row for row in results["rows"] if row.get("seconds")]
    for row in rows:
        if row["loop"] != "faithful":
            race = [row[key] for key in ("pair", "race", "allocator")]
            controls = {
                other["contender"]: other["seconds"]
                for other in rows
                if other["loop"] == "faithful"
                and [other[key] for key in ("pair", "race", "allocator")] == race
            }
            yield Measurement((row["contender"], ", ".join(race)), row["seconds"], controls)
