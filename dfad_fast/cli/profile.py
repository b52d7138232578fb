"""``dfad-fast profile``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dfad_fast.cli.options import config_option, quiet_option, setting_options, threads_option
from dfad_fast.cli.output import open_console
from dfad_fast.cli.threads import set_threads
from dfad_fast.jobs.settings import DistillSettings, distill_settings


@click.command()
@setting_options({name: own for name, own in distill_settings().items() if own.profiled})
@threads_option("CPU threads (default: all cores, shared by the processes here).")
@quiet_option
@config_option
@click.option(
    "--iterations", "measured", type=int, default=10, show_default=True, help="Iterations to measure."
)
@click.option("--warm-up", type=int, default=3, show_default=True, help="Iterations to run before those.")
@click.option("--json", "json_file", help="Also write the results to this file as JSON.")
def profile(
    measured: int, warm_up: int, json_file: str | None, threads: int | None, quiet: bool, **settings: Any
) -> None:
    """Show where the time of a run's iterations goes. Takes the options of distill; keeps nothing that it trains."""
    from dfad_fast.jobs.distill import prepare
    from dfad_fast.profiling.profiling import profile
    from dfad_fast.profiling.table import print_profile
    from dfad_fast.runs.whole_files import make_folder, write_whole

    if json_file:
        make_folder(Path(json_file).parent)  # before the measurements, so that an error comes early
    set_threads(threads)
    console = open_console(quiet)
    job = prepare(DistillSettings(**settings), dry_run=True)
    measurements = profile(job.trainer, measured, warm_up)
    print_profile(console, measurements)
    if json_file:
        text = json.dumps(measurements.as_data(), indent=2) + "\n"
        write_whole(Path(json_file), lambda path: path.write_text(text))
