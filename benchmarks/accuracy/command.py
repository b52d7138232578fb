"""Runs a study of accuracy, arms x data x seeds, from a file, and resumes it after an interruption.

    python benchmarks/run.py accuracy benchmarks/studies/paper-digits.yaml --jobs 2 --out runs/paper-digits

The file holds settings of ``dfad-fast distill`` for all runs, for each data set and for each arm:

    seeds: [0, 1, 2]
    baseline: dfad
    settings: {student_init: random}
    data:
      digits: {dataset: digits, iterations: 350}
    arms:
      dfad: {method: dfad}
      real images: {method: dfad, source: "folder(path='{real}')", student_terms: l1}

``{real}`` is the file of the data's training images without labels, which give an upper bound. OUT/runs.jsonl gets a
line per run with its summary and its curve, OUT/accuracy.md the tables, and OUT a picture per data set. A run with
changed settings is run again; a killed run is resumed from its last checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("accuracy")
@click.argument("study", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of parallel runs."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of each run (default: the cores divided by --jobs).",
)
@click.option("--out", default="runs/accuracy", show_default=True, type=click.Path(path_type=Path))
@click.option("--only-report", is_flag=True, help="Only write tables and pictures of existing runs.")
def command(study: Path, jobs: int, threads: int | None, out: Path, only_report: bool) -> None:
    """Run the missing runs of the STUDY in a YAML file, and write tables with confidence intervals and pictures."""
    from benchmarks.accuracy.pictures import draw
    from benchmarks.accuracy.runs import read_records, run_missing
    from benchmarks.accuracy.study import done, read_study
    from benchmarks.measuring.names import as_file_name
    from dfad_fast.errors import UsageError

    try:
        from benchmarks.accuracy.report import sheets
    except ImportError as error:
        raise click.ClickException(f"the tables need scipy: pip install scipy ({error})") from error
    try:
        read = read_study(study)
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    there = {run.folder for run, _ in done(read_records(out), read.runs)}
    missing = [run for run in read.runs if run.folder not in there]
    click.echo(f"{len(read.runs)} runs, {len(there)} done")
    lost = [] if only_report else run_missing(missing, out, jobs, click.echo, threads)
    records = read_records(out)
    if not list(done(records, read.runs)):
        raise click.ClickException("nothing to report: no run has finished" + "".join(f"\n{x}" for x in lost))
    text = "\n".join(sheet.markdown() for sheet in sheets(read, records))
    (out / "accuracy.md").write_text(text)
    for data in read.data:
        draw(read, records, data, out / f"{as_file_name(data)}.png")
    click.echo(f"\n{text}")
    if lost:
        raise click.ClickException(
            "\n".join(["these runs did not finish. Run the same command again to resume them:", *lost])
        )
