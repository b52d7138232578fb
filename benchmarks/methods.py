"""Compares methods on one teacher: equal generated images, several seeds, final and best accuracy.

    python benchmarks/methods.py --dataset digits --seeds 0,1,2,3,4 --out runs/methods

Every run is the one that ``dfad-fast distill --method M --seed S`` makes, in OUT/M-seedS; runs that are there
already, complete, are read and not repeated. Prints a table (Markdown) and writes it to OUT/methods.md, the
figures to OUT/methods.json.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import click

from dfad_fast.errors import DFADFastError
from dfad_fast.methods import METHODS
from dfad_fast.training.job import DistillConfig, prepare
from dfad_fast.training.run_folder import SUMMARY


def run_once(config: DistillConfig) -> dict[str, Any]:
    """The summary of one run, from its folder if it is complete there."""
    folder = Path(str(config.out))
    if (folder / SUMMARY).is_file():
        summary = json.loads((folder / SUMMARY).read_text())
        if summary["iterations"] == summary["planned_iterations"]:
            return summary
    job = prepare(config, lambda text: None, overwrite=True)
    return job.run()


def spread(values: list[float]) -> str:
    """Mean and sample deviation of fractions, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.2f} ± {100 * deviation:.2f}"


def tabulate(runs: dict[str, list[dict[str, Any]]]) -> str:
    """A row per method: mean and deviation over seeds, in percent."""
    lines = [
        "| method | final accuracy | best accuracy | agreement | worst final / teacher | seconds | generated images |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, rows in runs.items():
        worst = min(row["student_accuracy_final"] / row["teacher_accuracy"] for row in rows)
        cells = [
            spread([row["student_accuracy_final"] for row in rows]),
            spread([row["student_accuracy_best"] for row in rows]),
            spread([row["agreement_final"] for row in rows]),
            f"{100 * worst:.2f}",
            f"{statistics.mean(row['seconds_distill'] for row in rows):.0f}",
            f"{rows[0]['generated_images']:,}",
        ]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    first = next(iter(runs.values()))
    teacher = first[0]["teacher_accuracy"]
    lines.append("")
    lines.append(
        f"Teacher {100 * teacher:.2f} %, {len(first)} seeds, mean ± sample deviation; "
        f"{first[0]['threads']} threads on {first[0]['device']}, torch {first[0]['versions']['torch']}."
    )
    return "\n".join(lines)


@click.command()
@click.option("--dataset", default="digits", show_default=True)
@click.option("--data-dir")
@click.option("--methods", default=",".join(METHODS), show_default=True)
@click.option("--seeds", default="0,1,2,3,4", show_default=True)
@click.option("--iterations", type=int, help="Default: the dataset's.")
@click.option("--out", default="runs/methods", show_default=True)
def main(
    dataset: str, data_dir: str | None, methods: str, seeds: str, iterations: int | None, out: str
) -> None:
    """Compare methods on one teacher."""
    folder = Path(out)
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in methods.split(",")}
    try:
        for method, rows in runs.items():
            for seed in map(int, seeds.split(",")):
                config = DistillConfig(
                    dataset=dataset,
                    data_dir=data_dir,
                    method=method,
                    seed=seed,
                    iterations=iterations,
                    out=str(folder / f"{method}-seed{seed}"),
                )
                summary = run_once(config)
                rows.append(summary)
                click.echo(
                    f"{method} seed {seed}: final {100 * summary['student_accuracy_final']:.2f} % "
                    f"best {100 * summary['student_accuracy_best']:.2f} % in {summary['seconds_distill']:.0f} s"
                )
    except DFADFastError as error:
        raise SystemExit(f"methods.py: {error}") from error
    table = tabulate(runs)
    (folder / "methods.json").write_text(json.dumps(runs, indent=2) + "\n")
    (folder / "methods.md").write_text(table + "\n")
    click.echo(f"\n{table}")


if __name__ == "__main__":
    main()
