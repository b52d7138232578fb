"""The contenders: numbers of processes and threads. torchrun starts each of them again in every round."""

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

from benchmarks.measuring.machine import ROOT

MODULE = "benchmarks.processes.worker"


@dataclass(frozen=True)
class Contender:
    processes: int
    threads: int
    sync_batch_norm: bool = False

    @property
    def name(self) -> str:
        synchronized = ", synchronized batch norm" if self.sync_batch_norm else ""
        return f"{self.processes} x {self.threads} thread{'s' if self.threads > 1 else ''}{synchronized}"


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
            *(f"--nproc-per-node={contender.processes}", "-m", MODULE),
            *(pair, method, "sync" if contender.sync_batch_norm else "own", str(contender.threads)),
            *(str(seconds), str(out)),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{contender.name} failed:\n{done.stderr[:2000]}")
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
