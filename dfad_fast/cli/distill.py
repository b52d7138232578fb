"""``dfad-fast distill``."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from dfad_fast.cli.options import (
    config_option,
    quiet_option,
    recorded_teachers,
    setting_options,
    threads_option,
)
from dfad_fast.cli.output import TeacherBar, open_console
from dfad_fast.cli.running import run_job
from dfad_fast.cli.threads import set_threads
from dfad_fast.jobs.settings import LENGTHS, DistillSettings, distill_settings
from dfad_fast.settings import as_option, refuse_beyond


@click.command()
@setting_options(distill_settings())
@threads_option("CPU threads (default: all cores, shared by the processes here).")
@click.option("--overwrite", is_flag=True, help="Replace another run in that folder.")
@quiet_option
@config_option
def distill(threads: int | None, overwrite: bool, quiet: bool, **settings: Any) -> None:
    """Distill a teacher into a student, without data.

    With several processes, on one machine or many: torchrun --nproc-per-node=2 -m dfad_fast distill ...
    """
    from dfad_fast.distributed import processes
    from dfad_fast.jobs.distill import prepare
    from dfad_fast.jobs.networks import with_trained_teacher

    refuse_beyond(settings, distill_settings(), as_option)
    processes.join(settings["process_timeout"])
    set_threads(threads)
    console = open_console(quiet)
    _drop_overridden_length(settings)
    config = DistillSettings(**settings)
    context = click.get_current_context()
    recorded = recorded_teachers()
    if recorded and context.get_parameter_source("teachers") is ParameterSource.DEFAULT:
        config = with_trained_teacher(config, recorded)
    given = {name for name in settings if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    with TeacherBar(console) as bar:
        job = prepare(config, bar, overwrite=overwrite, given=given)
    run_job(job, console)


def _drop_overridden_length(settings: dict[str, Any]) -> None:
    """A length on the command line overrides another kind of length in --config."""
    source = click.get_current_context().get_parameter_source
    if any(source(name) is ParameterSource.COMMANDLINE for name in LENGTHS):
        settings |= {name: None for name in LENGTHS if source(name) is ParameterSource.DEFAULT_MAP}
