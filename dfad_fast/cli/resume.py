"""``dfad-fast resume``."""

from __future__ import annotations

import click

from dfad_fast.cli.options import quiet_option, threads_option
from dfad_fast.cli.output import open_console, say
from dfad_fast.cli.running import run_job
from dfad_fast.cli.threads import set_threads
from dfad_fast.errors import UsageError
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.terminal import quoted
from dfad_fast.wording import counted


@click.command()
@click.argument("run")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume even if settings, versions or this machine's capabilities have changed.",
)
@threads_option("CPU threads (default: the same number as before).")
@click.option("--teachers", help="Folder of teachers trained here (default: the run's). None is trained.")
@quiet_option
def resume(run: str, accept_changes: bool, threads: int | None, teachers: str | None, quiet: bool) -> None:
    """Resume the run in folder RUN from its last checkpoint and finish it as planned.

    A run that was killed before its first checkpoint is restarted.
    """
    from dfad_fast.distributed import processes
    from dfad_fast.jobs.config import read_config, recorded_threads
    from dfad_fast.jobs.distill import prepare
    from dfad_fast.runs.layout import folder_of

    folder = folder_of(run)
    given = {"out": str(folder)} if teachers is None else {"out": str(folder), "teachers": teachers}
    config = DistillSettings(**{**read_config(run), **given})
    processes.join(config.process_timeout)
    console = open_console(quiet)
    # The number of threads determines the order of sums: with another one the result would differ.
    set_threads(recorded_threads(folder) if threads is None else threads)
    job = prepare(config, resume=True, accept_changes=accept_changes)
    if job.trainer.iteration >= job.iterations:
        raise UsageError(
            f"{folder} is complete, with {counted(job.trainer.iteration, 'iteration')}: for a longer run, "
            f"dfad-fast distill --config {quoted(folder)} --iterations N --out ANOTHER_FOLDER"
        )
    if job.trainer.iteration:
        say(console, f"resuming from iteration {job.trainer.iteration}")
    run_job(job, console)
