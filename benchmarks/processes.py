"""What a run gains by several processes on this machine, and what they say to each other.

    python benchmarks/processes.py                       # about 12 minutes on two cores
    python benchmarks/processes.py --pairs lenet --rounds 1 --seconds 4

One process with one thread, one with two, and two and three with one each take turns, each started anew in every round
by torchrun with the batch of the step's benchmark, made a multiple of 6, speed exact. Prints the table (Markdown) and
writes it to OUT/processes.md, the figures to OUT/processes.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import ROOT, describe
from benchmarks.step_cases import PAIRS
from benchmarks.tables import Sheet, size


@dataclass(frozen=True)
class Contender:
    processes: int
    threads: int
    sync_batch_norm: bool = False

    @property
    def name(self) -> str:
        synchronised = ", synchronised batch norm" if self.sync_batch_norm else ""
        return f"{self.processes} x {self.threads} thread{'s' if self.threads > 1 else ''}{synchronised}"


CONTENDERS = (
    Contender(1, 1),
    Contender(1, 2),
    Contender(2, 1),
    Contender(3, 1),
    Contender(2, 1, True),
    Contender(3, 1, True),
)


def race_once(pair: str, method: str, contender: Contender, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={contender.processes}", "-m", "benchmarks.processes_worker"),
            *(pair, method, "sync" if contender.sync_batch_norm else "own", str(contender.threads)),
            *(str(seconds), str(out)),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"processes.py: {contender.name} failed:\n{done.stderr[:2000]}")
        return json.loads(out.read_text())


def measure(pair: str, method: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    found: dict[Contender, list[dict[str, Any]]] = {contender: [] for contender in CONTENDERS}
    for _ in range(rounds):
        for contender in CONTENDERS:
            found[contender].append(race_once(pair, method, contender, seconds))
            click.echo(
                f"{pair}, {contender.name}: {statistics.median(found[contender][-1]['seconds']):.3f} s",
                err=True,
            )
    return [
        {
            **asdict(contender),
            "name": contender.name,
            "rounds": [statistics.median(run["seconds"]) for run in runs],
            "seconds": statistics.median(statistics.median(run["seconds"]) for run in runs),
            "images": runs[0]["images"],
            "said": runs[0]["said"],
        }
        for contender, runs in found.items()
    ]


def sheet(pair: str, method: str, rows: list[dict[str, Any]]) -> Sheet:
    def line(row: dict[str, Any]) -> tuple[str, ...]:
        said = row["said"]
        others = sum(said.get(name, 0) for name in ("all_reduce", "all_gather", "all_to_all_single"))
        calls = sum(count for name, count in said.items() if name.endswith("calls"))
        several = row["processes"] > 1
        return (
            row["name"],
            f"{row['images'] / row['seconds']:,.0f}",
            f"{rows[0]['seconds'] / row['seconds']:.2f}",
            size(said.get("gradients", 0)) if several else "-",
            size(others) if several else "-",
            str(calls) if several else "-",
        )

    columns = ("processes", "images/s", "x one thread", "gradients", "other bytes", "collectives")
    return Sheet(
        f"{PAIRS[pair].teacher} -> {PAIRS[pair].student}, {method}: an iteration",
        columns,
        tuple(map(line, rows)),
    )


@click.command()
@click.option("--pairs", default="lenet,resnet", show_default=True)
@click.option("--method", default="dfad-ar-vi", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Of each contender in a round, at least.")
@click.option("--out", default="benchmarks/results/processes", show_default=True)
def main(pairs: str, method: str, rounds: int, seconds: float, out: str) -> None:
    """Race numbers of processes."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe("cpu")
    results = {pair: measure(pair, method, rounds, seconds) for pair in pairs.split(",")}
    text = "\n".join(sheet(pair, method, rows).markdown() for pair, rows in results.items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['device']}, torch {machine['versions']['torch']}"
    text += f"\n{where}; medians of {rounds} rounds, bytes and collectives of one process.\n"
    (folder / "processes.json").write_text(
        json.dumps({"machine": machine, "pairs": results}, indent=2) + "\n"
    )
    (folder / "processes.md").write_text(text)
    click.echo(text)


if __name__ == "__main__":
    main()
