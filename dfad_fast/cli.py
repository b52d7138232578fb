"""The command line: ``dfad-fast distill`` and what goes on with, looks at or hands over what came of it."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click
from click.core import ParameterSource

from dfad_fast.errors import ConfigError, DFADFastError, DFADFastWarning, UsageError
from dfad_fast.interrupt import ending_signals
from dfad_fast.jobs.settings import DistillSettings, distill_settings
from dfad_fast.settings import EPOCHS, SEED, Limits, as_option, refuse_beyond
from dfad_fast.terminal import Stream, outliving_readers, printable, quoted
from dfad_fast.version import __version__
from dfad_fast.wording import counted

if TYPE_CHECKING:
    from dfad_fast.jobs.distil import Job
    from dfad_fast.reporting.console import Console
    from dfad_fast.reporting.progress import BarProgress, LineProgress
    from dfad_fast.training.trainer import DFADTrainer


_SECONDS_BETWEEN_LINES = 5.0
_IMAGES = Limits(most=10**6)
_LOG = logging.getLogger("dfad_fast")
_RECORDED_TEACHERS = "dfad_fast.recorded_teachers"


class CommaSeparated(click.ParamType):
    """``3,32,32`` as a tuple of values."""

    def __init__(self, kind: Callable[[str], Any], name: str) -> None:
        self._kind = kind
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected {self.name} separated by commas, got {value!r}", param, ctx)


_TYPES: dict[Any, click.ParamType] = {
    tuple[float, ...]: CommaSeparated(float, "numbers"),
    tuple[int, ...]: CommaSeparated(int, "integers"),
    tuple[str, ...]: CommaSeparated(str, "names"),
}


def within(limits: Limits) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that refuses numbers beyond ``limits``."""

    def refuse(_ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        limits.refuse(as_option(param.name or ""), value)
        return value

    return refuse


_seed_option = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    callback=within(SEED),
    help="Fixes everything that is drawn.",
)


def _threads_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--threads", type=int, callback=within(Limits(1, 1024)), help=help)


def _use_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    from dfad_fast.jobs.config import read_config

    settings = read_config(value)
    # What a stranger's file may not name is where to write.
    settings.pop("out", None)
    ctx.meta[_RECORDED_TEACHERS] = settings.pop("teachers", None)
    ctx.default_map = {key: setting for key, setting in settings.items() if setting is not None}


def _drop_overridden_length(settings: dict[str, Any]) -> None:
    """A length on the command line comes before another kind of length in --config."""
    source = click.get_current_context().get_parameter_source
    for given, other in (("iterations", "images"), ("images", "iterations")):
        if source(given) is ParameterSource.COMMANDLINE and source(other) is ParameterSource.DEFAULT_MAP:
            settings[other] = None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def app() -> None:
    """Data-free knowledge distillation: a small student of a trained classifier, without its data."""


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives ``command`` an option for each setting of a run."""
    for name, own in reversed(distill_settings().items()):
        command = click.option(
            as_option(name),
            type=_TYPES.get(own.kind, own.kind) if not own.multiple else get_args(own.kind)[0],
            multiple=own.multiple,
            is_flag=own.kind is bool,
            default=None if own.multiple else own.default,
            show_default=own.kind is not bool and own.default not in (None, ()),
            metavar=own.metavar,
            help=own.help,
        )(command)
    return command


@app.command()
@_setting_options
@_threads_option("CPU threads (default: all cores, shared by the processes here).")
@click.option("--overwrite", is_flag=True, help="Write over another run in that folder.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=_use_config,
    help="Take settings from a run's folder or its config.yaml; options given here come before them.",
)
def distill(threads: int | None, overwrite: bool, quiet: bool, **settings: Any) -> None:
    """Distil a teacher into a student, without data.

    Over several processes, on one machine or many: torchrun --nproc-per-node=2 -m dfad_fast distill ...
    """
    from dfad_fast.distributed import processes
    from dfad_fast.jobs.distil import prepare
    from dfad_fast.jobs.networks import with_trained_teacher

    refuse_beyond(settings, distill_settings(), as_option)
    processes.join(settings["process_timeout"])
    _set_threads(threads)
    console = _console(quiet)
    _drop_overridden_length(settings)
    config = DistillSettings(**settings)
    context = click.get_current_context()
    recorded = context.meta.get(_RECORDED_TEACHERS)
    if recorded and context.get_parameter_source("teachers") is ParameterSource.DEFAULT:
        config = with_trained_teacher(config, recorded)
    with _teacher_bar(console) as bar:
        job = prepare(config, bar, overwrite=overwrite)
    _run(job, console)


@app.command()
@click.argument("run")
@click.option(
    "--accept-changes", is_flag=True, help="Go on though versions, or what this machine can do, have changed."
)
@_threads_option("CPU threads (default: as many as the run had).")
@click.option("--teachers", help="Folder of teachers trained here (default: the run's). None is trained.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def resume(run: str, accept_changes: bool, threads: int | None, teachers: str | None, quiet: bool) -> None:
    """Go on with the run in folder RUN, from its last checkpoint to the end it was meant to have. One that was killed
    before its first checkpoint is begun again."""
    from dfad_fast.distributed import processes
    from dfad_fast.jobs.config import read_config, recorded_threads
    from dfad_fast.jobs.distil import prepare
    from dfad_fast.runs.layout import folder_of

    folder = folder_of(run)
    given = {"out": str(folder)} if teachers is None else {"out": str(folder), "teachers": teachers}
    config = DistillSettings(**{**read_config(run), **given})
    processes.join(config.process_timeout)
    console = _console(quiet)
    # Sums are ordered by the number of threads: with another one the run would not end as it would have.
    _set_threads(recorded_threads(folder) if threads is None else threads)
    job = prepare(config, resume=True, accept_changes=accept_changes)
    if job.trainer.iteration >= job.iterations:
        raise UsageError(
            f"{folder} is complete, with {counted(job.trainer.iteration, 'iteration')}: for a longer run, "
            f"dfad-fast distill --config {quoted(folder)} --iterations N --out ANOTHER_FOLDER"
        )
    if job.trainer.iteration:
        _say(console)(f"going on from iteration {job.trainer.iteration}")
    _run(job, console)


@app.command()
@click.option("--dataset", required=True, help="digits, mnist, fashion-mnist, cifar10, cifar100.")
@click.option("--data-dir", help="Folder with the dataset's files.")
@click.option("--network", help="A network's name (default: the dataset's).")
@click.option("--epochs", type=int, callback=within(EPOCHS), help="Epochs (default: the dataset's).")
@click.option("--learning-rate", type=float, help="Peak learning rate (default: the dataset's).")
@_seed_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@_threads_option("CPU threads (default: all cores).")
@click.option("--teachers", default="runs/teachers", show_default=True, help="Folder to save it in.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def teacher(
    dataset: str,
    data_dir: str | None,
    network: str | None,
    epochs: int | None,
    learning_rate: float | None,
    seed: int,
    device: str,
    threads: int | None,
    teachers: str,
    quiet: bool,
) -> None:
    """Train a teacher on a dataset and save it."""
    from dfad_fast.data import load_dataset
    from dfad_fast.jobs.devices import choose_device
    from dfad_fast.jobs.teachers import find_or_train_teacher, training_on

    _set_threads(threads)
    console = _console(quiet)
    data = load_dataset(dataset, data_dir)
    training = training_on(dataset, network, epochs, learning_rate, seed)
    with _teacher_bar(console) as bar:
        found = find_or_train_teacher(data, training, Path(teachers), choose_device(device), bar)
    _say(console)(f"teacher: {found.origin}")


@app.command()
@click.argument("run")
@click.option(
    "--images",
    type=click.Choice(["real", "generated"]),
    help="What the networks are compared on (default: real test images where the run names some).",
)
@click.option(
    "--samples",
    type=int,
    default=1000,
    show_default=True,
    callback=within(_IMAGES),
    help="Images of each kind, at most.",
)
@click.option(
    "--best", is_flag=True, help="The best student at the run's evaluations, instead of the last one."
)
@click.option("--bins", type=int, default=15, show_default=True, help="Bins of the calibration error.")
@_seed_option
@click.option("--dataset", help="Dataset whose test images are looked at (default: the run's).")
@click.option("--data-dir", help="Folder with the dataset's files (default: the run's).")
@click.option("--teachers", help="Folder of teachers trained here (default: the run's).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@_threads_option("CPU threads (default: all cores).")
@click.option("--out", help="Folder for inspect.json and inspect.png (default: RUN).")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def inspect(
    run: str,
    images: Literal["real", "generated"] | None,
    samples: int,
    best: bool,
    bins: int,
    seed: int,
    dataset: str | None,
    data_dir: str | None,
    teachers: str | None,
    device: str,
    threads: int | None,
    out: str | None,
    quiet: bool,
) -> None:
    """Show how alike teacher and student of the run in folder RUN are, finished or not: accuracy, features per
    stage, calibration, agreement between images, classes of generated images. Trains and downloads nothing."""
    from dfad_fast.inspection.inspecting import inspect
    from dfad_fast.inspection.picture import draw_inspection
    from dfad_fast.inspection.table import print_inspection
    from dfad_fast.jobs.trained_run import load_run
    from dfad_fast.runs.layout import INSPECTION, INSPECTION_PICTURE
    from dfad_fast.runs.whole_files import make_folder, write_whole

    _set_threads(threads)
    console = _console(quiet)
    trained = load_run(
        run,
        dataset,
        data_dir,
        teachers,
        device,
        real_images_needed=dataset is not None or images != "generated",
        best=best,
    )
    folder = Path(out) if out else trained.folder
    make_folder(folder)  # before measuring in vain
    chosen = images or ("real" if trained.test_set else "generated")
    inspection = inspect(trained, chosen, samples, bins, seed)
    text = json.dumps(inspection.as_data(), indent=2, allow_nan=False) + "\n"
    write_whole(folder / INSPECTION, lambda path: path.write_text(text))
    write_whole(folder / INSPECTION_PICTURE, lambda path: draw_inspection(path, inspection))
    print_inspection(console, inspection)
    _say(console)(f"Everything is in {folder / INSPECTION} and {folder / INSPECTION_PICTURE}.")


@app.command()
@click.argument("run")
@click.option(
    "--format",
    type=click.Choice(["onnx", "torch", "safetensors"]),
    default="onnx",
    show_default=True,
    help="onnx: a model for onnxruntime. torch: a program of torch.export, .pt2. safetensors: the weights.",
)
@click.option("--int8", is_flag=True, help="Of onnx: write one in 8-bit integers beside it.")
@click.option("--averaged", is_flag=True, help="The moving average of the student, if the run kept one.")
@click.option(
    "--best", is_flag=True, help="The best student at the run's evaluations, instead of the last one."
)
@click.option("--out", metavar="FILE", help="The file (default: RUN/student.onnx and the like).")
@click.option("--overwrite", is_flag=True, help="Write over files of these names.")
@click.option(
    "--samples",
    type=int,
    default=1000,
    show_default=True,
    callback=within(_IMAGES),
    help="Images to check on and to measure by, at most.",
)
@click.option(
    "--calibration-images",
    type=int,
    default=512,
    show_default=True,
    callback=within(_IMAGES),
    help="Generated images to scale int8 by.",
)
@click.option("--dataset", help="Dataset whose test images are looked at (default: the run's).")
@click.option("--data-dir", help="Folder with the dataset's files (default: the run's).")
@click.option("--teachers", help="Folder of teachers trained here (default: the run's).")
@_threads_option("CPU threads (default: all cores).")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def export(run: str, format: str, threads: int | None, quiet: bool, **options: Any) -> None:
    """Hand over the student of the run in folder RUN, finished or not, as a file that was checked against it. As
    inspect, it needs the run's teacher: its weights, or its dataset's files."""
    from dfad_fast.exporting import Int8Failed, export
    from dfad_fast.exporting.table import print_export

    _set_threads(threads)
    console = _console(quiet)
    try:
        exported = export(run, format, **options)
    except Int8Failed as error:
        print_export(console, error.export)
        raise
    print_export(console, exported)


@app.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--out", default="compare.png", show_default=True, help="The picture: accuracy over images.")
def compare(runs: tuple[str, ...], out: str) -> None:
    """Show the runs in folders RUNS beside each other; seeds of the same settings are taken together."""
    from dfad_fast import comparison
    from dfad_fast.runs.record import read_ended
    from dfad_fast.runs.whole_files import make_folder, write_whole

    picture = Path(out)
    if picture.suffix != ".png":
        raise UsageError(f"--out is a picture, NAME.png, got {out}")
    groups = comparison.group_runs([read_ended(Path(run)) for run in runs])
    console = _console(quiet=False)
    comparison.print_groups(console, groups)
    make_folder(picture.parent)
    write_whole(picture, lambda path: comparison.draw_groups(path, groups))
    _say(console)(f"The picture is {picture}.")


@app.command()
@click.argument("run")
@click.option("--out", metavar="FILE", help="The page (default: report.html in RUN).")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def report(run: str, out: str | None, quiet: bool) -> None:
    """Write all that the folder RUN tells of its run, finished or not, on one page for a browser."""
    from dfad_fast.reporting.report_page.page import write_page
    from dfad_fast.runs.layout import folder_of
    from dfad_fast.runs.whole_files import make_folder

    if out:
        if Path(out).suffix != ".html":
            raise UsageError(f"--out is a page, NAME.html, got {out}")
        make_folder(Path(out).parent)
    page = write_page(folder_of(run), Path(out) if out else None)
    _say(_console(quiet))(f"The page is {page}.")


# What a run leaves behind, and how good its networks are, is no matter of a profile.
_NOT_PROFILED = {name for name, own in distill_settings().items() if not own.profiled} | {"overwrite"}


@app.command(params=[option for option in distill.params if option.name not in _NOT_PROFILED])
@click.option("--iterations", "measured", type=int, default=10, show_default=True, help="To be measured.")
@click.option("--warm-up", type=int, default=3, show_default=True, help="Iterations before those.")
@click.option("--json", "json_file", help="File to write the same to, for programs.")
def profile(
    measured: int, warm_up: int, json_file: str | None, threads: int | None, quiet: bool, **settings: Any
) -> None:
    """Show where the time of a run's iterations goes. Takes the options of distill; nothing is trained to keep."""
    from dfad_fast.jobs.distil import prepare
    from dfad_fast.profiling.profiling import profile
    from dfad_fast.profiling.table import print_profile
    from dfad_fast.runs.whole_files import make_folder, write_whole

    if json_file:
        make_folder(Path(json_file).parent)  # before measuring in vain
    _set_threads(threads)
    console = _console(quiet)
    job = prepare(DistillSettings(**settings), dry_run=True)
    measurements = profile(job.trainer, measured, warm_up)
    print_profile(console, measurements)
    if json_file:
        text = json.dumps(measurements.as_data(), indent=2) + "\n"
        write_whole(Path(json_file), lambda path: path.write_text(text))


def _run(job: Job, console: Console) -> None:
    from dfad_fast.distributed import processes
    from dfad_fast.reporting.progress import show_progress
    from dfad_fast.reporting.summary_table import print_summary
    from dfad_fast.runs.summary import Summary
    from dfad_fast.training.trainer import Stopped

    trainer = job.trainer
    with (
        suppress(Stopped),
        show_progress(console, job.iterations, trainer.images_per_iteration) as progress,
    ):
        summary = job.run(_StopsWithoutReader(progress, trainer))
    if trainer.iteration < job.iterations:
        raise Interrupted(
            f"interrupted at iteration {trainer.iteration} of {job.iterations}; everything so far is saved in "
            f"{job.out}: go on with  {processes.command()} resume {quoted(job.out)}"
        )
    print_summary(console, Summary.from_data(summary), job.out)


class _StopsWithoutReader:
    """``progress``, until nobody reads any more what the run prints: it then stops, as by SIGTERM."""

    def __init__(self, progress: BarProgress | LineProgress, trainer: DFADTrainer) -> None:
        self._progress = progress
        self._trainer = trainer

    def advance(self, iteration: int) -> None:
        self._progress.advance(iteration)
        if isinstance(sys.stdout, Stream) and sys.stdout.reader_left:
            self._trainer.stop()

    def log(self, record: dict[str, Any]) -> None:
        self._progress.log(record)

    def tell(self, text: str) -> None:
        self._progress.tell(text)


class Interrupted(DFADFastError):
    """Ctrl-C, SIGTERM, SIGHUP or a closed pipe, after everything was saved."""

    exit_code = 128 + signal.SIGINT


def _console(quiet: bool) -> Console:
    from dfad_fast.reporting.console import Console

    # Of several processes only the first one tells what all do.
    console = Console(quiet=quiet or int(os.environ.get("RANK", "0")) > 0)
    _LOG.addHandler(_Printing(console))
    return console


class _Printing(logging.Handler):
    """A message as a line of its own, as it is."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        _say(self._console)(record.getMessage())


@contextmanager
def _log_told() -> Iterator[None]:
    """Within it the handlers that commands add to the package's logger are at work, and no others."""
    before = _LOG.level, _LOG.propagate
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    try:
        yield
    finally:
        _LOG.setLevel(before[0])
        _LOG.propagate = before[1]
        for handler in [handler for handler in _LOG.handlers if isinstance(handler, _Printing)]:
            _LOG.removeHandler(handler)


def _say(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)


class _teacher_bar:
    """Epochs of a teacher in training: one line that is rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Any = None
        self._said = 0.0

    def __enter__(self) -> Callable[[int, float], None]:
        return self._show

    def _show(self, epoch: int, loss: float) -> None:
        text = f"teacher: epoch {epoch}, loss {loss:.4f}"
        if not self._console.is_terminal:
            if time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
                self._said = time.monotonic()
                self._console.print(text, highlight=False)
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()


def _set_threads(threads: int | None) -> None:
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if threads is None and local_processes > 1:
        # torchrun's own default is one thread for each.
        threads = max(1, _cores() // local_processes)
    if threads is None:
        return
    if threads * local_processes > _cores():
        of_each = f" in each of {local_processes} processes" if local_processes > 1 else ""
        warnings.warn(
            f"{threads} threads{of_each} share {_cores()} cores and wait for each other: --threads sets fewer",
            DFADFastWarning,
            stacklevel=2,
        )
    import torch

    torch.set_num_threads(threads)


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted."""
    warnings.showwarning = _show_warning
    with outliving_readers(), _log_told(), _signals_raising():
        code = _main()
    sys.exit(code)


def _main() -> int:
    try:
        return app.main(standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 2
    except ConfigError as error:
        return _complain(str(error), error.exit_code)
    except DFADFastError as error:
        return _complain(_with_options(str(error)), error.exit_code)
    except click.ClickException as error:
        return _complain(f"{error.format_message()} (see dfad-fast --help)", error.exit_code)
    except (_Ended, KeyboardInterrupt, click.Abort):
        return _complain("interrupted before everything was saved", Interrupted.exit_code)
    finally:
        if _is_one_of_several():
            from dfad_fast.distributed import processes

            processes.leave()


def _with_options(message: str) -> str:
    """With settings named as on the command line, which have another name in Python."""
    names = {param.name for command in app.commands.values() for param in command.params if param.name}
    underscored = "|".join(sorted(name for name in names if "_" in name))
    message = re.sub(
        rf"(?<![\w/.'\"])({underscored})(=True)?(?![\w/.'\"])", lambda found: as_option(found[1]), message
    )
    return re.sub(rf"^({'|'.join(sorted(names))})(?= must be )", lambda found: as_option(found[1]), message)


class _Ended(BaseException):
    """By a signal, where nothing is to be saved. No error of the code that it interrupts."""


@contextmanager
def _signals_raising() -> Iterator[None]:
    """What asks this process to end does so as Ctrl-C does, not at once and without a word.

    One of several may be waiting for another one, where no handler runs: there it ends at once, as torchrun expects.
    """

    def end(_number: int, _frame: Any) -> None:
        raise _Ended

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, end) for number in ending_signals() if number != signal.SIGINT
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """Ours without the place in the code that says them."""
    if issubclass(category, DFADFastWarning):
        _complain(_with_options(str(message)), 0)
    else:
        sys.stderr.write(printable(warnings.formatwarning(message, category, filename, lineno)))


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_one_of_several() -> bool:
    """Whether torchrun started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _complain(message: str, code: int) -> int:
    process = f" (process {os.environ.get('RANK', '?')})" if _is_one_of_several() else ""
    # In one write, so that processes do not write into each other's lines.
    sys.stderr.write(printable(f"dfad-fast{process}: {' '.join(message.split())}\n"))
    return code
