"""What the student starts from: as it was handed in, or its teacher's weights."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models.reading.check import device_of, image_dtype
from dfad_fast.models.starting.record import Start
from dfad_fast.models.starting.settling import was_trained
from dfad_fast.models.starting.start import start_from_teacher
from dfad_fast.models.surgery.sharding import is_sharded

STUDENT_INITS = ("auto", "teacher", "random")
_ROW = 5
"""Of random numbers: the images of the start have a generator of their own, seeded [seed, _ROW]."""
_BATCH = 128
_PIXELS = 2**20
"""Of all images that the start is fitted on, so that large ones cost no more than small ones."""
_SMALLEST, _LARGEST = 128, 1024


def start_student(
    student_init: str,
    teacher: nn.Module,
    student: nn.Module,
    image_shape: tuple[int, int, int],
    seed: int,
    begun: bool | None = None,
) -> Start:
    """Begins ``student`` as ``student_init`` says, and tells what became of it. The same in every process.

    ``auto`` leaves a student alone that was trained before, or that does not show whether it was, having no batch norm
    layers, and one that is of another family than the teacher. A student that was ``begun`` before, from the teacher
    (True) or not, in a run that is resumed, is not begun again.

    Raises UsageError for an unknown name, and where ``teacher`` asks for what cannot be.
    """
    if student_init not in STUDENT_INITS:
        raise unknown_name("student_init", student_init, STUDENT_INITS)
    if begun is not None:
        return Start(from_teacher=begun, reason="")
    if student_init == "random":
        return Start(from_teacher=False, reason="")
    problem = _problem(student_init, teacher, student)
    if problem:
        start = Start(False, problem)
    else:
        start = start_from_teacher(teacher, student, _images(student, image_shape, seed))
    if student_init == "teacher" and not start.from_teacher:
        raise UsageError(
            f"the student cannot start from the teacher, {start.reason}: choose student_init random, or a student of "
            "the teacher's family"
        )
    return start


def _problem(student_init: str, teacher: nn.Module, student: nn.Module) -> str | None:
    if is_sharded(teacher) or is_sharded(student):
        return "since a network is sharded over processes"
    if student_init == "auto":
        trained = was_trained(student)
        if trained is None:
            return "since it has no batch norm layers that would show whether it was trained"
        if trained:
            return "since it was trained before"
    return None


def _images(network: nn.Module, image_shape: tuple[int, int, int], seed: int) -> list[Tensor]:
    """Colored noise: sums of noise of all scales, standardized as normalized images are. Nearer to images than white
    noise is, whose pixels know nothing of each other."""
    channels, height, width = image_shape
    count = min(_LARGEST, max(_SMALLEST, _PIXELS // (height * width)))
    source = np.random.default_rng([seed, _ROW])
    batches = []
    for _ in range(count // _BATCH):
        images = torch.zeros(_BATCH, *image_shape)
        for scale in (1, 2, 4, 8, 16, 32):
            size = -(-height // scale), -(-width // scale)
            if scale > 1 and max(size) < 2:
                break
            noise = torch.from_numpy(source.standard_normal((_BATCH, channels, *size), dtype=np.float32))
            weight = 0.5 if scale == 1 else 1.0
            images += weight * F.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
        images = (images - images.mean()) / images.std()
        batches.append(images.to(device_of(network), image_dtype(network)))
    return batches
