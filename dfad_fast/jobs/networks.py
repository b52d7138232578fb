"""The two networks of a run, built from their names in the settings."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from dfad_fast.data import Dataset, load_dataset
from dfad_fast.data.defaults import DEFAULTS
from dfad_fast.errors import UsageError
from dfad_fast.jobs import black_box
from dfad_fast.jobs.own_test_images import is_path, read_own, refuse_unreadable
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.jobs.teachers import Teacher, Training, find_or_train_teacher, training_on
from dfad_fast.methods.plugins import load_plugins
from dfad_fast.models import (
    Ensemble,
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
from dfad_fast.models.loading.weights_file import split_key
from dfad_fast.models.reading.check import as_image_shape
from dfad_fast.networks.validation import classes_of_teacher
from dfad_fast.runs.config_file import recorded_config

MissingTeacher = Literal["train", "initialize", "refuse"]
"""What to do if the dataset's teacher has not been trained yet."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """The two networks of a run, for images of shape ``image_shape``."""

    teacher: nn.Module
    student: nn.Module
    image_shape: tuple[int, int, int]
    classes: int
    teacher_weights: tuple[Path, ...]
    teacher_origin: str | None
    """Where the teacher's weights come from, in words; None if the settings say so."""

    @property
    def teacher_digest(self) -> str | list[str] | None:
        """SHA-256 of the teacher's weights file, or of each member's in an ensemble; None if a factory made them."""
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.teacher_weights]
        return digests if len(digests) > 1 else digests[0] if digests else None


def run_plugins(settings: DistillSettings) -> None:
    """Runs the plugins. First logs all code that the settings name, including factories and programs."""
    factories = [
        name.rpartition(":")[0]
        for name in (settings.teacher, settings.student)
        if name and ":" in name and not is_packaged(name) and not is_program(name)
    ]
    programs = [settings.teacher] if settings.teacher and runs_code(settings.teacher) else []
    for code in dict.fromkeys([*factories, *programs, *(settings.plugin or ())]):
        _log.info(f"running the code in {code}, as requested")
    load_plugins(settings.plugin or ())


def build_pair(
    settings: DistillSettings,
    dataset: Dataset | None,
    device: torch.device,
    missing_teacher: MissingTeacher,
    teacher_progress: Callable[[int, float], None] | None = None,
) -> Pair:
    """Teacher and student as ``settings`` name them. ``dataset`` is the one that ``settings.dataset`` names.

    Raises UsageError for settings that do not fit each other, and for a missing teacher that is refused.
    """
    black_box.refuse_unused(settings)
    if dataset and missing_teacher == "train" and _is_trained_here(settings):
        _refuse_unfit_student(settings, dataset)
    teacher = (
        black_box.behind_address(settings, dataset)
        if settings.teacher_url
        else build_teacher(settings, dataset, device, missing_teacher, teacher_progress)
    )
    classes = classes_of_teacher(teacher.network, teacher.image_shape)
    if settings.teacher_answers and not settings.teacher_url:
        teacher = black_box.shut(teacher, settings, classes)
    torch.manual_seed(settings.seed)
    student = build_student(settings, teacher.image_shape, classes).to(device)
    return Pair(teacher.network, student, teacher.image_shape, classes, teacher.weights, teacher.origin)


def _refuse_unfit_student(settings: DistillSettings, dataset: Dataset) -> None:
    """Raises UsageError for a student of this library that cannot be built, before a teacher is trained for it."""
    if ":" not in student_name(settings):
        with torch.device("meta"):
            build_student(settings, dataset.image_shape, len(dataset.classes))


def build_teacher(
    settings: DistillSettings,
    dataset: Dataset | None,
    device: torch.device,
    missing: MissingTeacher,
    progress: Callable[[int, float], None] | None = None,
) -> Teacher:
    """The teacher of :func:`build_pair`, with the same errors."""
    torch.manual_seed(settings.seed)  # a factory may draw the teacher's weights
    if dataset and _is_trained_here(settings):
        return _dataset_teacher(settings, dataset, device, missing, progress)
    return _given_teacher(settings, dataset, device)


def student_name(settings: DistillSettings) -> str:
    """The student's network or factory. Raises UsageError if none is named."""
    if settings.student:
        return settings.student
    if settings.dataset:
        return DEFAULTS[settings.dataset].student
    raise UsageError("no student: name one with --student (a network's name, or file.py:factory)")


def build_student(settings: DistillSettings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The student that ``settings`` name, with the weights that its factory gives it, on the CPU."""
    return _network(student_name(settings), shape, classes, "student")


def refuse_other_teacher(pair: Pair, folder: Path) -> None:
    """Raises UsageError if the run in ``folder`` was started with other teacher weights."""
    recorded = recorded_config(folder).get("teacher_weights_sha256")
    if pair.teacher_digest != recorded:
        files = " and ".join(map(str, pair.teacher_weights)) or None
        raise UsageError(
            f"the teacher's weights ({files}) are not those that the run in {folder} was started "
            "with: restore those, or start a new run with dfad-fast distill"
        )


def refuse_unreadable_test_images(settings: DistillSettings, dataset: Dataset | None) -> None:
    """Checks the user's own test images, without reading any.

    Raises UsageError if ``settings`` evaluate on images that are not there, or whose normalization is unknown.
    """
    if settings.evaluate and is_path(settings.evaluate):
        refuse_unreadable(settings.evaluate, *normalization_of(settings, dataset))


def normalization_of(
    settings: DistillSettings, dataset: Dataset | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and deviation that ``settings`` give for the teacher's images, or those of its ``dataset``."""
    return (
        settings.mean or (dataset.mean if dataset else None),
        settings.std or (dataset.std if dataset else None),
    )


def find_test_set(settings: DistillSettings, dataset: Dataset | None, pair: Pair) -> Dataset | None:
    """The dataset whose test images ``settings`` name, normalized like the teacher's images; None for none.

    ``dataset`` is the teacher's, if the run names it: its mean and deviation normalize the images, unless
    ``settings`` give others. Raises UsageError if the images do not fit the teacher.
    """
    shown = dataset
    if settings.evaluate and is_path(settings.evaluate):
        shown = read_own(
            settings.evaluate, pair.image_shape, pair.classes, *normalization_of(settings, dataset)
        )
    elif settings.evaluate and not (dataset and settings.evaluate == dataset.name):
        shown = load_dataset(settings.evaluate, settings.data_dir)
    if shown is None:
        return None
    if shown.image_shape != pair.image_shape or len(shown.classes) != pair.classes:
        raise UsageError(
            f"{shown.name} has images {list(shown.image_shape)} of {len(shown.classes)} classes, but the "
            f"teacher takes {list(pair.image_shape)} and knows {pair.classes}: evaluate on data that fits the "
            "teacher"
        )
    known = dataset or shown
    return replace(shown, mean=settings.mean or known.mean, std=settings.std or known.std)


def with_trained_teacher(settings: DistillSettings, teachers: str) -> DistillSettings:
    """``settings`` with the folder ``teachers``, if it holds the teachers that they need.

    Another folder is left out, so that nothing is written there.
    """
    if settings.dataset not in DEFAULTS:
        return settings
    trainings = _trainings(settings, settings.dataset)
    are_there = all((Path(teachers) / training.file).is_file() for training in trainings)
    return replace(settings, teachers=teachers) if are_there else settings


def _trainings(settings: DistillSettings, dataset: str) -> list[Training]:
    seeds = range(settings.teacher_seed, settings.teacher_seed + settings.teacher_count)
    return [training_on(dataset, settings.teacher, settings.teacher_epochs, seed=seed) for seed in seeds]


def _is_trained_here(settings: DistillSettings) -> bool:
    """Whether the settings name a dataset's teacher and no weights."""
    return settings.teacher is None or (
        ":" not in settings.teacher and not is_program(settings.teacher) and not settings.teacher_weights
    )


def _dataset_teacher(
    settings: DistillSettings,
    dataset: Dataset,
    device: torch.device,
    missing_teacher: MissingTeacher,
    progress: Callable[[int, float], None] | None,
) -> Teacher:
    if settings.teacher_weights:
        raise UsageError("--teacher-weights needs --teacher: name the network that the weights belong to")
    trainings = _trainings(settings, dataset.name)
    if missing_teacher == "initialize":
        networks = [
            create_network(training.network, dataset.image_shape, len(dataset.classes)).to(device)
            for training in trainings
        ]
        origin = f"{trainings[0].network} with initial weights; none is trained for this"
        return Teacher(_as_one(settings, networks), dataset.image_shape, origin=origin)
    folder, train = Path(settings.teachers), missing_teacher == "train"
    members = [
        find_or_train_teacher(dataset, training, folder, device, progress, train) for training in trainings
    ]
    return Teacher(
        _as_one(settings, [member.network for member in members]),
        dataset.image_shape,
        tuple(path for member in members for path in member.weights),
        "; ".join(member.origin for member in members if member.origin),
    )


def _as_one(settings: DistillSettings, networks: Sequence[nn.Module]) -> nn.Module:
    """The teacher, or an ensemble of several. Raises UsageError if weights are given for a single one."""
    if len(networks) > 1:
        return Ensemble(networks, settings.ensemble_mean, settings.ensemble_weights)
    if settings.ensemble_weights:
        raise UsageError(
            "--ensemble-weights is for several teachers: give --teacher-weights once for each, or --teacher-count"
        )
    return networks[0]


def _given_teacher(settings: DistillSettings, dataset: Dataset | None, device: torch.device) -> Teacher:
    """The teacher that the settings name, with its weights, or as its factory builds it."""
    name = settings.teacher
    if name is None:
        raise UsageError("no teacher: give --teacher and --teacher-weights, or --dataset to train one")
    shape = settings.image_shape or (dataset.image_shape if dataset else None)
    if shape is None:
        raise UsageError("the shape of the teacher's images is needed: --image-shape CHANNELS,HEIGHT,WIDTH")
    image_shape = as_image_shape(shape)
    if settings.teacher_count > 1:
        raise UsageError(
            "--teacher-count is for teachers trained here: give --teacher-weights once for each member"
        )
    files = settings.teacher_weights or ()
    if is_program(name):
        if files:
            raise UsageError(f"{name} holds its weights: leave out --teacher-weights")
        program = load_program(name, image_shape).to(device)
        return Teacher(_as_one(settings, [program]), image_shape, (Path(name),))
    classes = settings.classes or (len(dataset.classes) if dataset else None)
    networks = [_network(name, image_shape, classes, "teacher").to(device) for _ in files or [name]]
    if not files:
        return Teacher(_as_one(settings, networks), image_shape, origin=_origin(name))
    for network, file in zip(networks, files, strict=True):
        load_weights(network, file, "teacher")
    return Teacher(_as_one(settings, networks), image_shape, tuple(split_key(file)[0] for file in files))


def _origin(teacher: str) -> str:
    """Where a teacher's weights come from if no weights file was given."""
    if has_weights(teacher):
        return f"weights from the folder {teacher.partition(':')[2]}"
    drawn = is_packaged(teacher) or ":" not in teacher
    return "no --teacher-weights given, so " + (
        "its weights are random" if drawn else "its weights are those from its factory"
    )


def _network(name: str, shape: tuple[int, int, int], classes: int | None, what: str) -> nn.Module:
    if is_program(name):  # the teacher's programs are loaded elsewhere
        raise UsageError(
            f"{name} is a program, which cannot be trained: name the {what}'s network, or file.py:factory"
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
