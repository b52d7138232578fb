"""What the student starts from: its own weights as passed in, or its teacher's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.distributed import collectives
from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models.black_box import is_black_box
from dfad_fast.models.reading.check import device_of, image_dtype, is_lazy
from dfad_fast.models.starting.record import Start
from dfad_fast.models.starting.settling import was_trained
from dfad_fast.models.starting.start import start_from_teacher
from dfad_fast.models.surgery.sharding import is_sharded
from dfad_fast.networks.probing import Prober
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.procedural.choosing import choose_drawing
from dfad_fast.sources.procedural.kinds import parse_kinds

STUDENT_INITS = ("auto", "teacher", "random")
_ROW = 31
"""The images for the start come from a separate random generator, seeded [seed, _ROW]."""
_BATCH = 128
_SMALLEST_BATCH = 8  # batch norm layers take their statistics from it
_PIXELS = 2**20
"""Total pixels of the images that the start is fitted on, so that large images cost no more than small ones, and the
most of a batch, which has to fit into memory."""
_SMALLEST, _LARGEST = 128, 1024


def start_student(
    student_init: str,
    teacher: nn.Module,
    student: nn.Module,
    draw: Callable[[], Sequence[Tensor]],
    begun: bool | None = None,
) -> Start:
    """Initializes ``student`` according to ``student_init`` and returns the result, the same in every process.

    ``draw`` returns batches of images [B, C, H, W]; it is called only if they are needed.

    ``auto`` leaves a student unchanged if it was trained before, if that cannot be known because it has no batch norm
    layers, or if it is of another family than the teacher. In a run that is resumed, ``begun`` says whether the student
    was initialized from the teacher; it is not initialized again.

    Raises UsageError for an unknown name, and if ``teacher`` is requested but impossible.
    """
    if student_init not in STUDENT_INITS:
        raise unknown_name("student_init", student_init, STUDENT_INITS)
    if begun is not None:
        return Start(from_teacher=begun, reason="")
    if student_init == "random":
        return Start(from_teacher=False, reason="")
    # Decided by the first process: all get its student, and either all draw images or none does.
    problem = collectives.on_first(lambda: _problem(student_init, teacher, student))
    start = Start(False, problem) if problem else start_from_teacher(teacher, student, draw())
    if student_init == "teacher" and not start.from_teacher:
        raise UsageError(
            f"the student cannot start from the teacher, {start.reason}: choose student_init random, or a student of "
            "the teacher's family"
        )
    return start


@contextmanager
def undone_on_failure(student: nn.Module, student_init: str) -> Iterator[None]:
    """Restores the weights of ``student`` if the block fails.

    Without that, a second attempt would find a student that looks trained, or an unrelated mistake would cost the
    user's own weights.
    """
    if student_init == "random":
        yield
        return
    tensors = [x for x in (*student.parameters(), *student.buffers()) if not is_lazy(x)]
    before = [x.detach().clone() for x in tensors]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        raise


def _problem(student_init: str, teacher: nn.Module, student: nn.Module) -> str | None:
    if is_sharded(teacher) or is_sharded(student):
        return "since a network is sharded over processes"
    if is_black_box(teacher):
        return "since a black box shows no weights"
    if student_init == "auto":
        trained = was_trained(student)
        if trained is None:
            return "since it has no batch norm layers that would show whether it was trained"
        if trained:
            return "since it was trained before"
    return None


def draw_images(prober: Prober, form: ImageForm, seed: int) -> list[Tensor]:
    """Procedural images of the kinds that fit the teacher best, in batches.

    On CIFAR-10 (ResNet-20 -> two blocks per stage) a start fitted on procedural images, 70 % of them dead leaves, had
    51 % of 1,000 test images right, one fitted on colored noise 17 %. On digits both did equally well.
    """
    student = prober.trio.student
    passes = prober.passes.teacher
    drawing = choose_drawing(parse_kinds("all"), "auto", prober, form, seed)
    prober.passes.teacher = passes  # only iterations are counted
    _, height, width = form.shape
    fitting = _PIXELS // (height * width)
    count = min(_LARGEST, max(_SMALLEST, fitting))
    size = min(_BATCH, max(_SMALLEST_BATCH, fitting))
    source = np.random.default_rng([seed, _ROW])
    return [
        form.normalize(drawing.draw(source, size, form.shape)).to(device_of(student), image_dtype(student))
        for _ in range(-(-count // size))
    ]
