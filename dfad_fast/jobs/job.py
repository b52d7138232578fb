"""The main job, as the command line runs it: a teacher, a student, a run's folder and a summary."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfad_fast.data import Dataset, dataset_names, load_dataset
from dfad_fast.data.defaults import DEFAULTS
from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.preflight import refuse_unaffordable
from dfad_fast.engine.recipe import RECIPES, choose_recipe
from dfad_fast.errors import ConfigError, UsageError, first_line, in_one_line, unknown_name
from dfad_fast.jobs.paths import found_from, made_absolute
from dfad_fast.jobs.settings import DistillSettings, as_plain, distill_settings
from dfad_fast.jobs.teachers import teacher_file, teacher_for
from dfad_fast.methods import METHODS
from dfad_fast.methods.plugins import load_plugins
from dfad_fast.models import (
    create_network,
    create_packaged_network,
    has_weights,
    is_packaged,
    is_program,
    load_factory_network,
    load_program,
    load_weights,
    runs_code,
)
from dfad_fast.models.generators.registry import GENERATORS
from dfad_fast.models.loading.weights_file import split_key
from dfad_fast.models.reading.check import as_image_shape, count_classes
from dfad_fast.networks.levers import SPEEDS, choose_levers, with_changes
from dfad_fast.reporting.loggers import LOGGERS, Loggers, available
from dfad_fast.runs.config_file import read_settings, recorded_config
from dfad_fast.runs.folder import refuse_other_run
from dfad_fast.runs.layout import CONFIG
from dfad_fast.runs.lock import refuse_held
from dfad_fast.settings import as_option, refuse_beyond
from dfad_fast.terminal import quoted
from dfad_fast.training.progress import Progress
from dfad_fast.training.trainer import DFADTrainer

MissingTeacher = Literal["train", "initialise", "refuse"]


@dataclass(frozen=True)
class Pair:
    """The two networks of a run, for images ``image_shape``."""

    teacher: nn.Module
    student: nn.Module
    image_shape: tuple[int, int, int]
    classes: int
    teacher_weights: Path | None

    @property
    def teacher_digest(self) -> str | None:
        """SHA-256 of the teacher's weights file; None where its factory made them."""
        if self.teacher_weights is None:
            return None
        return hashlib.sha256(self.teacher_weights.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Job:
    """A run that is set up and ready to go."""

    trainer: DFADTrainer
    iterations: int
    evaluate: list[tuple[Tensor, Tensor]] | None
    out: Path

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Runs what is left of it and returns the summary."""
        return self.trainer.fit(self.iterations - self.trainer.iteration, self.evaluate, progress=progress)


def prepare(
    config: DistillSettings,
    say: Callable[[str], None],
    teacher_progress: Callable[[int, float], None] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    rehearse: bool = False,
    accept_changes: bool = False,
) -> Job:
    """Builds and checks everything that ``config`` names, training a teacher where it names none.

    With ``rehearse`` nothing is written, no test images are read, and a teacher that would be trained is taken as
    it is initialised.

    Raises UsageError for settings that do not fit each other.
    """
    refuse_beyond(as_plain(config), distill_settings(), as_option)
    run_plugins(config, say)
    # Before a teacher is trained in vain. A run that goes on may do so on a machine with fewer packages.
    log = available(config.log or ()) if resume else config.log or ()
    Loggers(log)
    out = Path(config.out or f"runs/{config.dataset or 'distill'}-{config.method}-seed{config.seed}")
    if not rehearse:  # before a teacher is trained in vain
        collectives.on_first(lambda: refuse_held(out))
    if not (overwrite or resume or rehearse):
        collectives.on_first(lambda: refuse_other_run(out))
    device = choose_device(config.device)
    dataset = load_dataset(config.dataset, config.data_dir) if config.dataset else None
    if config.image_shape:  # before a network is shown images of that size
        own_batch = config.batch_per_process or config.batch_size // processes.count()
        shape = as_image_shape(config.image_shape)
        refuse_unaffordable(shape, own_batch, config.latent_dim, device, torch.float32, own_generator=True)
    iterations = _iterations(config)
    # A run that goes on needs the very teacher that it began with.
    missing_teacher: MissingTeacher = "initialise" if rehearse else "refuse" if resume else "train"
    # A teacher that is trained by the first process is read by the others.
    pair = collectives.first_then_others(
        lambda: build_pair(config, dataset, device, say, missing_teacher, teacher_progress)
    )
    named = METHODS.get(config.method) if isinstance(config.method, str) else config.method
    recipe = choose_recipe(config.recipe, pair.student, named.recipe if named else "auto")
    recipe = replace(
        recipe,
        student_lr=recipe.student_lr if config.student_lr is None else config.student_lr,
        generator_lr=recipe.generator_lr if config.generator_lr is None else config.generator_lr,
    )
    levers = choose_levers(with_changes(choose_levers(config.speed, device), config.lever or ()), device)
    test_set = None if rehearse else find_test_set(config, dataset, pair, say)
    evaluate = None
    if test_set:
        # The first of several processes alone looks at them.
        evaluate = list(test_set.test_batches(512, device)) if processes.is_first() else []
    if resume:
        collectives.on_first(lambda: refuse_other_teacher(pair, out))
    repeated = f"{processes.command()} distill --config {quoted((out / CONFIG).absolute())}"
    with _fitting_into_memory():
        trainer = DFADTrainer(
            pair.teacher,
            pair.student,
            pair.image_shape,
            config.method,
            config.generator,
            config.latent_dim,
            config.batch_per_process * processes.count() if config.batch_per_process else config.batch_size,
            config.seed,
            None if rehearse else out,
            recipe=recipe,
            taps_teacher=config.taps_teacher,
            taps_student=config.taps_student,
            overwrite=overwrite,
            resume=resume,
            image_mean=config.mean or (dataset.mean if dataset else None),
            image_std=config.std or (dataset.std if dataset else None),
            config={
                "distill": _plain(
                    made_absolute({**as_plain(config), "out": str(out), "iterations": iterations})
                ),
                "repeat": f"{repeated} --out ANOTHER_FOLDER",
                "teacher_weights_sha256": pair.teacher_digest,
                "threads": torch.get_num_threads(),
            },
            speed=levers,
            student_terms=config.student_terms,
            generator_terms=config.generator_terms,
            student_ema=config.student_ema,
            replay=config.replay,
            generator_ema=config.generator_ema,
            accept_changes=accept_changes,
            keep_checkpoints=config.keep_checkpoints,
            checkpoint_seconds=config.checkpoint_seconds,
            checkpoint_iterations=config.checkpoint_iterations,
            sync_batch_norm=config.sync_batch_norm,
            log=() if rehearse else log,
        )
    if config.method == "auto":
        reason = (
            "has batch norm layers"
            if trainer.distiller.method.reads_statistics
            else "has no batch norm layers (virtual samples do badly without)"
        )
        unmatched = (
            "" if trainer.networks.tap_pairs else " and no stage of the student matches one of its own"
        )
        say(f"method: {trainer.distiller.method.name}, since the teacher {reason}{unmatched}")
    else:
        say(f"method: {trainer.distiller.method.name}")
    if trainer.distiller.method.reads_features:
        for row in trainer.networks.matching.describe():
            say(f"tap: {row['teacher']} {row['teacher_shape']} <- {row['student']} {row['student_shape']}")
    if trainer.distiller.method.reads_last_stage:
        say(f"tap: {trainer.networks.matching.last_stage} (the teacher's last stage)")
    for notice in trainer.notices:
        say(notice)
    if iterations is None:
        assert config.images is not None
        iterations = trainer.iterations_for(config.images)
    return Job(trainer, iterations, evaluate, out)


@contextmanager
def _fitting_into_memory() -> Iterator[None]:
    """Raises UsageError where the networks of a run are more than there is memory for."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        signs = ("allocate memory", "out of memory", "Storage size calculation overflowed")
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in signs):
            raise
        raise UsageError(
            f"there is not enough memory for these networks ({in_one_line(error)}): lower --latent-dim or --batch-size"
        ) from error


def run_plugins(config: DistillSettings, say: Callable[[str], None]) -> None:
    """Runs the plugins, once it is said what code the settings name: that of factories and programs too."""
    factories = [
        name.rpartition(":")[0]
        for name in (config.teacher, config.student)
        if name and ":" in name and not is_packaged(name) and not is_program(name)
    ]
    programs = [config.teacher] if config.teacher and runs_code(config.teacher) else []
    for code in dict.fromkeys([*factories, *programs, *(config.plugin or ())]):
        say(f"running the code in {code}, as it was told to")
    load_plugins(config.plugin or ())


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of ``dfad-fast distill`` in a run's config.yaml, with the paths as they are now where the run was
    moved. Raises UsageError where it holds none."""
    path = Path(path)
    path = path / CONFIG if path.is_dir() else path
    try:
        settings = dict(read_settings(path)["distill"])
        unknown = sorted(set(settings) - set(distill_settings()))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}: give a run's folder or its {CONFIG}"
        ) from error
    except (TypeError, KeyError, ValueError) as error:
        raise UsageError(
            f"{path} is no {CONFIG} of dfad-fast distill: give a run's folder or its {CONFIG}"
        ) from error
    if unknown:
        raise ConfigError(
            f"{path} has settings that dfad-fast distill does not know: "
            + ", ".join(f"{name}: {reprlib.repr(settings[name])}" for name in unknown)
        )
    settings = _with_tuples(settings)
    _refuse_other_types(settings, path)
    _refuse_other_values(settings, path)
    return _with_tuples(found_from(settings, path.parent))


def _with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}


def with_trained_teacher(config: DistillSettings, teachers: str) -> DistillSettings:
    """``config`` with that folder of teachers, where the one that it needs was trained before: nothing is then written
    there."""
    if config.dataset not in DEFAULTS:
        return config
    defaults = DEFAULTS[config.dataset]
    file = teacher_file(
        Path(teachers),
        config.dataset,
        config.teacher or defaults.teacher,
        defaults.teacher_epochs if config.teacher_epochs is None else config.teacher_epochs,
        defaults.learning_rate,
        config.teacher_seed,
    )
    return replace(config, teachers=teachers) if file.is_file() else config


def _refuse_other_types(settings: dict[str, Any], path: Path) -> None:
    for name, value in settings.items():
        if not distill_settings()[name].accepts(value):
            expected = distill_settings()[name].expected
            raise ConfigError(f"{path}: {name} is {reprlib.repr(value)}, expected {expected}: correct it")


def _refuse_other_values(settings: dict[str, Any], path: Path) -> None:
    """Those that the settings themselves show to be none, so that the file that they stand in can be named."""
    try:
        refuse_beyond(settings, distill_settings())
        if settings.get("image_shape") is not None:
            as_image_shape(settings["image_shape"])
        for name, known in _known_names(settings).items():
            for value in settings[name] if isinstance(settings[name], tuple) else [settings[name]]:
                if value not in known:
                    kind = "logger" if name == "log" else name
                    raise UsageError(f"{name}: {unknown_name(kind, value, known)}")
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from error


def _known_names(settings: dict[str, Any]) -> dict[str, Collection[str]]:
    """The names that some of ``settings`` have to be among. A plugin may add methods; the dataset to evaluate on need
    not be known where other images are looked at."""
    if not settings.get("plugin") and settings.get("method", "auto") not in ("auto", *METHODS):
        load_plugins()  # of installed packages
    known: dict[str, Collection[str]] = {
        "recipe": ("auto", *RECIPES),
        "generator": GENERATORS,
        "speed": SPEEDS,
        "dataset": dataset_names(),
        "log": LOGGERS,
        **({} if settings.get("plugin") else {"method": ("auto", *METHODS)}),
    }
    return {name: names for name, names in known.items() if settings.get(name) is not None}


def recorded_threads(folder: Path) -> int | None:
    """The CPU threads of the run in ``folder``; None where it does not say, or had another number of processes."""
    config = recorded_config(folder)
    threads = config.get("threads")
    known = isinstance(threads, int) and threads > 0 and config.get("processes", 1) == processes.count()
    return threads if known else None


def refuse_other_teacher(pair: Pair, folder: Path) -> None:
    """Raises UsageError where the run in ``folder`` was started with other weights of the teacher."""
    recorded = recorded_config(folder).get("teacher_weights_sha256")
    if pair.teacher_digest != recorded:
        raise UsageError(
            f"the teacher's weights ({pair.teacher_weights}) are not those that the run in {folder} was started "
            "with: bring them back, or start anew with dfad-fast distill"
        )


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def choose_device(name: str) -> torch.device:
    """``auto`` and ``cuda`` are a GPU of each process's own. Raises UsageError where it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and processes.count() > 1:
        name = f"cuda:{processes.own_gpu()}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        torch.Generator(device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used ({first_line(error)}): try --device cpu") from error
    return device


def _iterations(config: DistillSettings) -> int | None:
    """None where images are counted instead."""
    if config.images is not None:
        if config.iterations is not None:
            raise UsageError("--iterations and --images both say how long the run is: give one of them")
        return None
    if config.iterations is not None:
        return config.iterations
    return DEFAULTS[config.dataset].iterations if config.dataset else 2000


def student_name(config: DistillSettings) -> str:
    """The student's network or factory. Raises UsageError where none is named."""
    if config.student:
        return config.student
    if config.dataset:
        return DEFAULTS[config.dataset].student
    raise UsageError("no student: name one with --student (a network's name, or file.py:factory)")


def build_pair(
    config: DistillSettings,
    dataset: Dataset | None,
    device: torch.device,
    say: Callable[[str], None],
    missing_teacher: MissingTeacher,
    teacher_progress: Callable[[int, float], None] | None = None,
) -> Pair:
    """Teacher and student as ``config`` names them. ``dataset`` is the one that ``config.dataset`` names.

    ``missing_teacher``: what happens where the dataset's teacher has not been trained before.

    Raises UsageError for settings that do not fit each other, and for a missing teacher that is refused.
    """
    torch.manual_seed(config.seed)  # a factory may draw the teacher's weights
    teacher, weights, shape = _teacher(config, dataset, device, say, teacher_progress, missing_teacher)
    classes = count_classes(teacher, shape, "teacher")
    torch.manual_seed(config.seed)
    student = build_student(config, shape, classes).to(device)
    return Pair(teacher, student, shape, classes, weights)


def build_student(config: DistillSettings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The student that ``config`` names, with the weights that its factory gives it, on the CPU."""
    return _network(student_name(config), shape, classes, "student")


def _teacher(
    config: DistillSettings,
    dataset: Dataset | None,
    device: torch.device,
    say: Callable[[str], None],
    progress: Callable[[int, float], None] | None,
    missing_teacher: MissingTeacher,
) -> tuple[nn.Module, Path | None, tuple[int, int, int]]:
    """The teacher, its weights file, and the shape of its images."""
    if config.teacher is None or (
        dataset
        and ":" not in config.teacher
        and not is_program(config.teacher)
        and not config.teacher_weights
    ):
        if dataset is None:
            raise UsageError("no teacher: give --teacher and --teacher-weights, or --dataset to train one")
        if config.teacher_weights and config.teacher is None:
            raise UsageError("--teacher-weights needs --teacher: name the network that the weights belong to")
        defaults = DEFAULTS[dataset.name]
        name = config.teacher or defaults.teacher
        if missing_teacher == "initialise":
            say(f"teacher: {name} as it is initialised; none is trained for this")
            teacher = create_network(name, dataset.image_shape, len(dataset.classes))
            return teacher.to(device), None, dataset.image_shape
        teacher, path = teacher_for(
            dataset,
            name,
            config.teacher_epochs if config.teacher_epochs is not None else defaults.teacher_epochs,
            defaults.learning_rate,
            config.teacher_seed,
            Path(config.teachers),
            device,
            say,
            progress,
            train=missing_teacher == "train",
        )
        return teacher, path, dataset.image_shape
    shape = config.image_shape or (dataset.image_shape if dataset else None)
    if shape is None:
        raise UsageError("the shape of the teacher's images is needed: --image-shape CHANNELS,HEIGHT,WIDTH")
    classes = config.classes or (len(dataset.classes) if dataset else None)
    image_shape = as_image_shape(shape)
    if is_program(config.teacher):
        if config.teacher_weights:
            raise UsageError(f"{config.teacher} holds its weights: leave out --teacher-weights")
        return load_program(config.teacher, image_shape).to(device), Path(config.teacher), image_shape
    teacher = _network(config.teacher, image_shape, classes, "teacher").to(device)
    if config.teacher_weights is None:
        say(f"teacher: {_origin(config.teacher)}")
        return teacher, None, image_shape
    load_weights(teacher, config.teacher_weights, "teacher")
    return teacher, split_key(config.teacher_weights)[0], image_shape


def _origin(teacher: str) -> str:
    """Where the weights of a teacher come from that was given no file of them."""
    if has_weights(teacher):
        return f"weights from the folder {teacher.partition(':')[2]}"
    drawn = is_packaged(teacher) or ":" not in teacher
    return "no --teacher-weights given, so " + (
        "its weights are random" if drawn else "it is taken as its factory built it"
    )


def _network(name: str, shape: tuple[int, int, int], classes: int | None, what: str) -> nn.Module:
    if is_program(name):  # the teacher's are loaded elsewhere
        raise UsageError(
            f"{name} is a program, which is not trained: name the {what}'s network, or file.py:factory"
        )
    if is_packaged(name):
        return create_packaged_network(name, shape, classes)
    if ":" in name:
        return load_factory_network(name)
    if name.endswith(".py"):
        raise UsageError(
            f"{name} is a file: name the function in it that builds the {what}, as {name}:FUNCTION"
        )
    if classes is None:
        raise UsageError(f"the {what} is named {name!r}, so its number of classes is needed: --classes N")
    return create_network(name, shape, classes)


def find_test_set(
    config: DistillSettings, dataset: Dataset | None, pair: Pair, say: Callable[[str], None]
) -> Dataset | None:
    """The dataset whose test images ``config`` names, normalised as the teacher's images are; None for none.

    ``dataset`` is the teacher's, if the run names it: by its mean and deviation images are normalised, unless
    ``config`` says others. Raises UsageError where the images are not the teacher's kind.
    """
    shown = dataset
    if config.evaluate and not (dataset and config.evaluate == dataset.name):
        shown = load_dataset(config.evaluate, config.data_dir)
    if shown is None:
        return None
    if shown.image_shape != pair.image_shape or len(shown.classes) != pair.classes:
        raise UsageError(
            f"{shown.name} has images {list(shown.image_shape)} of {len(shown.classes)} classes and the "
            f"teacher takes {list(pair.image_shape)} and answers {pair.classes}: evaluate on the teacher's own "
            "kind of data"
        )
    known = dataset or shown
    if config.teacher and not config.mean:
        say(
            f"test images are normalised by {known.name}'s own mean and deviation: --mean and --std set others"
        )
    return replace(shown, mean=config.mean or known.mean, std=config.std or known.std)
