"""Initializes a student from its teacher if both belong to one family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError, first_line
from dfad_fast.models.reading.answers import find_logits
from dfad_fast.models.reading.check import left_as_it_was
from dfad_fast.models.starting.blocks import Blocks, counterparts
from dfad_fast.models.starting.channels import Map
from dfad_fast.models.starting.choosing import Channels, choose_channels
from dfad_fast.models.starting.following import follow
from dfad_fast.models.starting.matching import match_layers
from dfad_fast.models.starting.moments import measure
from dfad_fast.models.starting.record import LeftLayer, Start, TakenLayer
from dfad_fast.models.starting.settling import settle_statistics
from dfad_fast.models.starting.slicing import Correction, DoesNotFit, Slicer, taken_parameters

LEAST_SHARE = 2 / 3
"""Networks are of one family if at least this fraction of the student's parameters, and of its layers, fits."""


@dataclass(frozen=True)
class Ways:
    """How to initialize a student from its teacher.

    Which channels to choose, which blocks to keep, and how to compensate for channels missing in a sum.

    With least squares for both, students of digits (resnet8-w32 -> w16) and CIFAR-10 (ResNet-20 at half width) started
    closest to their teachers, on colored noise and on real images.
    """

    channels: Channels = "least-squares"
    blocks: Blocks = "even"
    correction: Correction = "least-squares"


def start_from_teacher(
    teacher: nn.Module, student: nn.Module, batches: Sequence[Tensor], ways: Ways = Ways()
) -> Start:
    """Copies all fitting weights of ``teacher`` into ``student`` and recomputes its batch norm statistics.

    Statistics, covariances and agreement are measured on ``batches`` of images [B, C, H, W] with B at least 2: the
    closer to the teacher's data, the better. The teacher is left unchanged. If too little fits, so is the student, and
    ``reason`` in the result says why. The same weights and images give the same student.
    """
    if not batches or min(len(images) for images in batches) < 2:
        raise UsageError(
            "initializing a student from its teacher needs batches of at least 2 images: pass some"
        )
    example = batches[0][:2]
    try:
        of, to = follow(teacher, example), follow(student, example)
    except Exception as error:  # a user's forward may raise anything
        return Start(False, f"because its layers could not be followed: {first_line(error, 200)}")
    start, values = _plan(teacher, student, of, to, batches, ways)
    if not start.from_teacher:
        return start
    with torch.no_grad():
        for path, own in values.items():
            module = student.get_submodule(path)
            for name, value in own.items():
                getattr(module, name).copy_(value)
    settle_statistics(student, batches)
    return replace(
        start, agreement=agreement(teacher, student, batches), images=sum(len(images) for images in batches)
    )


def _plan(
    teacher: nn.Module, student: nn.Module, of: Map, to: Map, batches: Sequence[Tensor], ways: Ways
) -> tuple[Start, dict[str, dict[str, Tensor]]]:
    """The weights to take, and the new values by layer; changes nothing yet."""
    matched = match_layers(of, to, counterparts(teacher, student, of, to, ways.blocks))
    by_images = "least-squares" in (ways.channels, ways.correction)
    moments = measure(teacher, of, batches) if by_images else {}
    chosen = choose_channels(teacher, of, to, matched, ways.channels, moments)
    slicer = Slicer(of, to, chosen, ways.correction, moments)
    values: dict[str, dict[str, Tensor]] = {}
    taken, left = [], []
    for path, layer in to.layers.items():
        if path not in matched:
            left.append(LeftLayer(path, "the teacher has no such layer in its place"))
            continue
        source = of.layers[matched[path]]
        try:
            values[path] = slicer.cut(teacher, source, student, layer)
        except DoesNotFit as problem:
            left.append(LeftLayer(path, str(problem)))
            continue
        name = next(iter(values[path]))
        shapes = (
            tuple(values[path][name].shape),
            tuple(getattr(teacher.get_submodule(source.path), name).shape),
        )
        taken.append(TakenLayer(path, source.path, *shapes))
    left += [LeftLayer(path, "it did not run") for path in _not_run(student, to)]
    used = {own.source for own in taken}
    start = Start(
        from_teacher=True,
        reason="",
        taken=tuple(taken),
        left=tuple(left),
        unused=tuple(path for path in of.layers if path not in used),
        parameters=sum(p.numel() for p in student.parameters()),
        parameters_taken=sum(
            taken_parameters(own, student.get_submodule(path)) for path, own in values.items()
        ),
    )
    if min(start.share, start.share_of_layers) < LEAST_SHARE:
        reason = (
            f"because it is not of the teacher's family: only {100 * start.share:.0f} % of its parameters and "
            f"{100 * start.share_of_layers:.0f} % of its layers would fit"
        )
        return replace(start, from_teacher=False, reason=reason, taken=()), {}
    return start, values


def _not_run(student: nn.Module, to: Map) -> list[str]:
    return [
        path
        for path, module in student.named_modules()
        if path not in to.layers and next(module.parameters(recurse=False), None) is not None
    ]


def agreement(teacher: nn.Module, student: nn.Module, batches: Sequence[Tensor]) -> float:
    """The fraction of images in ``batches`` to which both networks, in eval mode, give the same class."""
    same = total = 0
    with left_as_it_was(teacher), left_as_it_was(student), torch.no_grad():
        teacher.eval()
        student.eval()
        for images in batches:
            answers = [find_logits(network(images), len(images)) for network in (teacher, student)]
            assert answers[0] is not None
            assert answers[1] is not None
            same += int((answers[0].argmax(1) == answers[1].argmax(1)).sum())
            total += len(images)
    return same / total
