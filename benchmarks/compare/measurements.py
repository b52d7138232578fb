"""What is ours in a file of results, beside what is not ours and ran in the same rounds."""

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
    """Something of ours round by round, and beside it what is not ours and ran in the same rounds."""

    name: tuple[str, str]
    rounds: Sequence[float]
    controls: dict[str, Sequence[float]] = field(default_factory=dict)
    processes: Sequence[float] = ()  # medians of those that ours ran in at once
    kin: str = ""  # what measurements share whose processes are as lucky as each other

    def relative(self, controls: Sequence[str]) -> list[float]:
        """Logarithms of ours over the geometric mean of ``controls``, by round."""
        columns = [self.rounds, *(self.controls[name] for name in controls)]
        logs = [[math.log(value) for value in row] for row in zip(*columns, strict=False)]
        return [row[0] - (statistics.mean(row[1:]) if controls else 0.0) for row in logs]

    @property
    def apart(self) -> float | None:
        """How far two processes of ours are from each other, as a logarithm; None of one."""
        if len(self.processes) != 2:
            return None
        return abs(math.log(self.processes[0] / self.processes[1]))


def measurements(results: Results) -> Iterator[Measurement]:
    """Whatever is ours in a file."""
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
            mode = heat.mode if heat.allocator == "pinned" else f"{heat.mode}, allocator as it comes"
            processes = ours.get("process_medians_seconds", ())  # older files have one process
            yield Measurement(
                (heat.case, mode), ours["round_medians_seconds"], controls, processes, ours["op"]
            )


def _of_loops(results: Results) -> Iterator[Measurement]:
    """Those of whole iterations: the trainer's beside the published loop's."""
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
