"""Builds the parts of a run from the user's input: networks, method and recipe, checked before anything runs."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from dfad_fast.distributed import collectives, processes
from dfad_fast.engine import preflight
from dfad_fast.engine.choice import choose_method, source_of
from dfad_fast.engine.generators import generator_of
from dfad_fast.engine.global_randomness import undisturbed
from dfad_fast.engine.planning import with_levers
from dfad_fast.engine.random_numbers import RandomNumbers
from dfad_fast.engine.recipe import Recipe, choose_recipe
from dfad_fast.engine.settings import DistillerSettings, recorded
from dfad_fast.engine.starting import draw_images, start_student
from dfad_fast.errors import UsageError
from dfad_fast.methods import Method
from dfad_fast.models.black_box import BlackBoxTeacher, is_black_box
from dfad_fast.models.ensemble import named_members
from dfad_fast.models.generators.sampling import check_generator
from dfad_fast.models.reading.check import device_of, image_dtype
from dfad_fast.models.starting.record import Start
from dfad_fast.models.surgery.wrappers import unwrapped
from dfad_fast.networks.exclusive import used_alone
from dfad_fast.networks.levers import Levers, choose_levers
from dfad_fast.networks.measuring import with_measured
from dfad_fast.networks.probing import Prober
from dfad_fast.networks.trio import Trio
from dfad_fast.networks.validation import classes_of_teacher
from dfad_fast.sources import ImageForm
from dfad_fast.terms import reads_student

# Trainers created in several threads would otherwise reseed it for each other.
_GLOBAL_GENERATOR = threading.Lock()


@dataclass(frozen=True)
class Setup:
    """Everything that is fixed when a run starts."""

    trio: Trio
    prober: Prober
    method: Method
    recipe: Recipe
    levers: Levers
    random: RandomNumbers
    start: Start


def set_up(
    teacher: nn.Module,
    student: nn.Module,
    form: ImageForm,
    settings: DistillerSettings,
    begun: bool | None = None,
) -> Setup:
    """``begun`` is for a run that is resumed: whether its student was initialized from the teacher.

    Raises UsageError if the user's input does not fit together; see :class:`dfad_fast.DFADTrainer`.
    """
    shape = form.shape
    teacher, student = unwrapped(teacher), unwrapped(student)
    preflight.refuse_unfit(teacher, student)
    device, dtype = device_of(student), image_dtype(student)
    own_batch = settings.batch_size // processes.count()
    by_name = isinstance(settings.generator, str)
    preflight.refuse_unaffordable(shape, own_batch, settings.latent_dim, device, dtype, own_generator=by_name)
    levers = choose_levers(settings.speed, device)
    if is_black_box(teacher):
        levers = _levers_with_black_box(levers)
        if settings.best_by == "agreement":
            raise UsageError(
                "best_by agreement would spend queries of a black-box teacher on images that no step sees: choose "
                "accuracy, or auto"
            )
    if processes.count() > 1:
        levers = _levers_of_several(levers, settings.batch_size, settings.sync_batch_norm)
    # Networks made here draw from torch's global generator; the user's may draw from anything.
    with _GLOBAL_GENERATOR, undisturbed(device), used_alone(teacher, student):
        torch.manual_seed(settings.seed)
        classes = classes_of_teacher(teacher, shape)
        with torch.device("cpu"):  # whatever the default is
            generator = generator_of(
                settings.generator,
                source_of(settings.method, settings.source),
                form,
                settings.latent_dim,
                classes,
                settings.batch_size,
                levers.fused_generator,
            )
        generator.to(device, dtype)
        trio = Trio(
            teacher,
            student,
            generator,
            shape,
            settings.taps_teacher,
            settings.taps_student,
            levers,
            settings.sync_batch_norm and processes.count() > 1,
            own_batch,
        )
        levers = collectives.on_first(partial(with_measured, levers, trio, own_batch))
        prober = Prober(trio, levers)
        method = choose_method(
            settings.method,
            trio,
            settings.student_terms,
            settings.generator_terms,
            settings.source,
            settings.student_steps,
        )
        trio.equip(method.rows)
        method = replace(method, batches=with_levers(method, levers))
        _, first = named_members(teacher)[0]  # the channels of an ensemble's members are ordered differently
        start = start_student(
            settings.student_init, first, student, lambda: draw_images(prober, form, settings.seed), begun
        )
        recipe = choose_recipe(
            settings.recipe,
            trio.student,
            method.recipe,
            start.from_teacher,
            settings.student_lr,
            settings.generator_lr,
        )
        random = RandomNumbers(settings.seed, settings.latent_dim, device, dtype)
        check_generator(generator, random.draw_noise(2, random.held_out()), shape)
        if not trio.teacher_is_black_box:
            preflight.look_at_answers(trio.teacher, shape, own_batch, reads_student(method.generator))
    return Setup(trio, prober, method, recipe, levers, random, start)


def _levers_with_black_box(levers: Levers) -> Levers:
    """Raises UsageError with several processes, since each would count only its own queries."""
    if processes.count() > 1:
        raise UsageError("a black-box teacher counts its queries in one process: run without torchrun")
    return replace(levers, graph=False)


def _levers_of_several(levers: Levers, batch_size: int, sync_batch_norm: bool) -> Levers:
    """The levers that work with several processes. Raises UsageError if the batch does not divide evenly."""
    if batch_size % processes.count() or batch_size < 2 * processes.count():
        raise UsageError(
            f"a batch of {batch_size} images cannot be shared by {processes.count()} processes: give a multiple of "
            f"{processes.count()}, at least 2 images for each"
        )
    if levers.compile and sync_batch_norm:
        raise UsageError("compile has not been tried with synchronized batch norm: choose one of them")
    return replace(levers, graph=False)


def describe(
    settings: DistillerSettings,
    networks: Trio,
    method: Method,
    recipe: Recipe,
    levers: Levers,
    form: ImageForm,
    from_teacher: bool,
) -> dict[str, Any]:
    """What a run records, and what is compared when it is resumed, as plain values."""
    black_box = networks.teacher
    return {
        "method": method.name,
        "terms": method.describe(),
        "source": str(method.source_spec),
        "image_shape": list(networks.image_shape),
        "normalization": [None if x is None else list(x) for x in (form.mean, form.std)],
        **recorded(settings),
        "recipe": asdict(recipe),
        "student_init": "teacher" if from_teacher else "random",
        "levers": asdict(levers),
        "ensemble": networks.describe_ensemble(),
        "taps": networks.matching.describe() if method.reads_features else [],
        "processes": processes.count(),
        **({"black_box": black_box.describe()} if isinstance(black_box, BlackBoxTeacher) else {}),
    }
