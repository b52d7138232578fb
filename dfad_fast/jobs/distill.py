"""The main job of the command line: settings in, a run's folder and a summary out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfad_fast.allocator import pin_allocator
from dfad_fast.data import Dataset, load_dataset
from dfad_fast.data.defaults import DEFAULTS
from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.best import BestStudent
from dfad_fast.engine.choice import source_of
from dfad_fast.engine.global_randomness import undisturbed
from dfad_fast.engine.preflight import refuse_unaffordable
from dfad_fast.errors import UsageError
from dfad_fast.jobs.config import to_record
from dfad_fast.jobs.devices import choose_device, fitting_into_memory
from dfad_fast.jobs.networks import (
    MissingTeacher,
    Pair,
    build_pair,
    find_test_set,
    refuse_other_teacher,
    refuse_unreadable_test_images,
    run_plugins,
)
from dfad_fast.jobs.pace import FillingTakesTooLongError, Pace, find_pace
from dfad_fast.jobs.planned_methods import Plan, planned_methods
from dfad_fast.jobs.settings import LENGTHS, DistillSettings, as_plain, distill_settings
from dfad_fast.methods import METHODS
from dfad_fast.models.reading.batch_norm import batch_norm_layers
from dfad_fast.models.reading.check import as_image_shape
from dfad_fast.networks.levers import choose_levers, with_changes
from dfad_fast.networks.trio import Trio
from dfad_fast.reporting.loggers import Loggers, available
from dfad_fast.runs.folder import as_folder, refuse_other_run
from dfad_fast.runs.layout import CONFIG
from dfad_fast.runs.lock import refuse_held
from dfad_fast.runs.settings import RunSettings
from dfad_fast.settings import as_option, refuse_beyond, values
from dfad_fast.terminal import quoted
from dfad_fast.training.listeners import Progress
from dfad_fast.training.trainer import DFADTrainer
from dfad_fast.wording import counted

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run that is set up and ready to start."""

    trainer: DFADTrainer
    iterations: int
    evaluate: list[tuple[Tensor, Tensor]] | None
    out: Path

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Runs the remaining iterations and returns the summary."""
        return self.trainer.fit(self.iterations - self.trainer.iteration, self.evaluate, progress=progress)


def prepare(
    settings: DistillSettings,
    teacher_progress: Callable[[int, float], None] | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    accept_changes: bool = False,
    given: Collection[str] = (),
) -> Job:
    """Builds and checks everything that ``settings`` name; trains a teacher if they name none.

    With ``dry_run`` nothing is written, no test images are read, and a teacher that would be trained is only
    initialized. Pins the allocator of this process unless a lever turns that off. A plan for a length of time does not
    change settings whose names are in ``given``.

    Raises UsageError for settings that do not fit each other.
    """
    refuse_beyond(as_plain(settings), distill_settings(), as_option)
    run_plugins(settings)
    # Before a teacher is trained, so that errors come early. A run may resume on a machine with fewer packages.
    log = available(settings.log or ()) if resume else settings.log or ()
    Loggers(log)
    usual = f"runs/{settings.dataset or 'distill'}-{settings.method}-seed{settings.seed}"
    out = as_folder(usual if settings.out is None else settings.out)
    assert out is not None
    if not dry_run:
        collectives.on_first(lambda: _refuse_folder(out, may_hold_run=overwrite or resume))
    device = choose_device(settings.device)
    dataset = load_dataset(settings.dataset, settings.data_dir) if settings.dataset else None
    _refuse_unaffordable(settings, device)
    _refuse_two_lengths(settings)
    if settings.minutes is not None and (settings.teacher_url or settings.teacher_answers):
        raise UsageError("--minutes would spend queries of a black-box teacher on timing: use --iterations")
    for part in source_of(settings.method, settings.source).walk():
        part.check_files()
    refuse_unreadable_test_images(settings, dataset)
    best = BestStudent(settings.best_by)
    if not (dry_run or settings.dataset or settings.evaluate):
        best.refuse_untested()  # before a teacher is trained or a run is overwritten

    def build() -> Pair:
        return _build_pair(settings, dataset, device, resume, dry_run, teacher_progress)

    pair = build()
    if pair.teacher_origin:
        _log.info(f"teacher: {pair.teacher_origin}")
    levers = choose_levers(with_changes(choose_levers(settings.speed, device), settings.lever or ()), device)
    evaluate = None if dry_run else _test_batches(settings, dataset, pair, device)
    if resume:
        collectives.on_first(lambda: refuse_other_teacher(pair, out))
    if levers.pin_allocator:
        pin_allocator()

    def trainer_of(pair: Pair, **further: Any) -> DFADTrainer:
        return DFADTrainer(
            pair.teacher,
            pair.student,
            pair.image_shape,
            **{
                **values(settings, RunSettings),
                "batch_size": _batch_size(settings),
                "speed": levers,
                **further,
            },
            image_mean=settings.mean or (dataset.mean if dataset else None),
            image_std=settings.std or (dataset.std if dataset else None),
        )

    nowhere: dict[str, Any] = {"out": None, "log": ()}
    reason = None
    with fitting_into_memory():
        if settings.minutes is not None:
            _log.info(f"timing some iterations, to see how many fit into {settings.minutes:g} minutes")
            with undisturbed(device):
                plan, pace = _timed(
                    60 * settings.minutes,
                    planned_methods(settings, pair, device.type == "cpu", given)
                    or [Plan(settings.method, "")],
                    lambda **further: trainer_of(build(), log=(), **further),
                )
            levers = replace(levers, teacher_precision=pace.teacher_precision)
            _log.info(f"{settings.minutes:g} minutes: about {counted(pace.iterations, 'iteration')} here")
            reason = plan.reason
            settings = replace(settings, minutes=None, iterations=pace.iterations, **plan.settings)
        iterations = _iterations(settings)
        there = {
            "out": out,
            "log": log,
            "overwrite": overwrite,
            "resume": resume,
            "accept_changes": accept_changes,
            "config": _recorded(settings, out, iterations, pair),
        }
        trainer = trainer_of(pair, **(nowhere if dry_run else there))
    _tell_choices(trainer, reason or (_reason(trainer.networks) if settings.method == "auto" else None))
    if iterations is None:
        assert settings.images is not None
        iterations = trainer.iterations_for(settings.images)
    return Job(trainer, iterations, evaluate, out)


def _timed(seconds: float, plans: list[Plan], trainer_of: Callable[..., DFADTrainer]) -> tuple[Plan, Pace]:
    """The first plan that leaves time to train, and its pace. Raises the last plan's error if none does."""
    for plan in plans:

        def trainer_in(folder: Path, plan: Plan = plan) -> DFADTrainer:
            return trainer_of(**plan.settings, out=folder)

        try:
            return plan, find_pace(seconds, trainer_in, plan.filling_share)
        except FillingTakesTooLongError as error:
            if plan is plans[-1]:
                raise
            _log.info(f"method {plan.method} is not used: {error}")
    raise AssertionError("there is at least one plan")


def _refuse_folder(out: Path, may_hold_run: bool) -> None:
    """Refuses a folder in use before a teacher is trained, so that the error comes early."""
    refuse_held(out)
    if not may_hold_run:
        refuse_other_run(out)


def _refuse_two_lengths(settings: DistillSettings) -> None:
    given = [f"--{name}" for name in LENGTHS if getattr(settings, name) is not None]
    if len(given) > 1:
        both = "both set" if len(given) == 2 else "all set"
        raise UsageError(f"{' and '.join(given)} {both} the length of the run: give only one of them")


def _iterations(settings: DistillSettings) -> int | None:
    """The iterations of the run; None if its length is given in images."""
    if settings.images is not None:
        return None
    if settings.iterations is not None:
        return settings.iterations
    of_method = METHODS[settings.method].iterations if settings.method in METHODS else None
    if of_method is not None and settings.source == "auto":
        return of_method
    return DEFAULTS[settings.dataset].iterations if settings.dataset else 2000


def _batch_size(settings: DistillSettings) -> int:
    """The batch size of all processes together."""
    if settings.batch_per_process:
        return settings.batch_per_process * processes.count()
    return settings.batch_size


def _refuse_unaffordable(settings: DistillSettings, device: torch.device) -> None:
    """Refuses images that do not fit into memory before a network sees any."""
    if settings.image_shape:
        own_batch = _batch_size(settings) // processes.count()
        shape = as_image_shape(settings.image_shape)
        refuse_unaffordable(shape, own_batch, settings.latent_dim, device, torch.float32, own_generator=True)


def _build_pair(
    settings: DistillSettings,
    dataset: Dataset | None,
    device: torch.device,
    resume: bool,
    dry_run: bool,
    progress: Callable[[int, float], None] | None,
) -> Pair:
    # A resumed run needs exactly the teacher that it started with.
    missing_teacher: MissingTeacher = "initialize" if dry_run else "refuse" if resume else "train"

    # The first process trains the teacher, the others read it.
    return collectives.first_then_others(
        lambda: build_pair(settings, dataset, device, missing_teacher, progress)
    )


def _test_batches(
    settings: DistillSettings, dataset: Dataset | None, pair: Pair, device: torch.device
) -> list[tuple[Tensor, Tensor]] | None:
    """The test batches; None if there are no test images. Only the first process reads them."""
    read: list[Dataset] = []

    def find() -> str | None:
        found = find_test_set(settings, dataset, pair)
        read.extend([found] if found else [])
        return found.name if found else None

    name = collectives.on_first(find)
    if name is None:
        return None
    if settings.teacher and not settings.mean:
        name = dataset.name if dataset else name
        _log.info(
            f"test images are normalized by {name}'s own mean and deviation: change them with --mean and --std"
        )
    return [batch for test_set in read for batch in test_set.test_batches(512, device)]


def _recorded(settings: DistillSettings, out: Path, iterations: int | None, pair: Pair) -> dict[str, Any]:
    """What config.yaml holds in addition to the trainer's records."""
    repeated = f"{processes.command()} distill --config {quoted((out / CONFIG).absolute())}"
    return {
        "distill": to_record(settings, out, iterations),
        "repeat": f"{repeated} --out ANOTHER_FOLDER",
        "teacher_weights_sha256": pair.teacher_digest,
        "threads": torch.get_num_threads(),
    }


def _reason(networks: Trio) -> str:
    """Why ``auto`` chose its method, if only the networks determine it."""
    if networks.teacher_is_black_box:
        return "the teacher is a black box"
    reason = (
        "has batch norm layers"
        if batch_norm_layers(networks.teacher)
        else "has no batch norm layers (virtual samples do badly without)"
    )
    return f"the teacher {reason}" + (
        "" if networks.tap_pairs else ", and no stage of the student matches one of its stages"
    )


def _tell_choices(trainer: DFADTrainer, reason: str | None) -> None:
    """Logs the chosen method and what it reads; ``reason`` is why ``auto`` chose it."""
    method, networks = trainer.distiller.method, trainer.networks
    _log.info(f"method: {method.name}" + (f", since {reason}" if reason else ""))
    _log.info(f"source of images: {method.source_spec}")
    if method.reads_features:
        for row in networks.matching.describe():
            _log.info(
                f"tap: {row['teacher']} {row['teacher_shape']} <- {row['student']} {row['student_shape']}"
            )
    if method.reads_last_stage:
        _log.info(f"tap: {networks.matching.last_stage} (the teacher's last stage)")
    if method.reads_attention:
        _log.info(f"attention: {', '.join(map(str, networks.attention))}")
    for line in trainer.distiller.start.lines():
        _log.info(line)
    for notice in trainer.notices:
        _log.info(notice)
