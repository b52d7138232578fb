"""Checks that teacher and student fit each other. Each function raises UsageError if they do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models.ensemble import named_members
from dfad_fast.models.reading.check import count_classes, device_of, example_images, image_dtype


def refuse_untrainable(student: nn.Module) -> None:
    """Checks that the student has parameters to train."""
    if next(student.parameters(), None) is None:
        raise UsageError("the student has no parameters, so there is nothing to train: give another network")
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise UsageError(
            "all parameters of the student are frozen (requires_grad is False), so there is nothing to train: call "
            "student.requires_grad_()"
        )


def refuse_other_placement(teacher: nn.Module, student: nn.Module) -> None:
    """Checks that both have one type and device."""
    device, dtype = device_of(student), image_dtype(student)
    for what, network in named_members(teacher):
        other, other_dtype = device_of(network), image_dtype(network)
        if (other, other_dtype) != (device, dtype):
            raise UsageError(
                f"the {what} is {other_dtype} on {other} and the student {dtype} on {device}: "
                "bring both to one device and type with .to()"
            )


def classes_of_teacher(teacher: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """The number of classes of the teacher, the same for every member of an ensemble."""
    counts = {what: count_classes(member, image_shape, what) for what, member in named_members(teacher)}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"the {what} with {classes}" for what, classes in counts.items())
        raise UsageError(
            f"the members of an ensemble must answer with the same number of classes, got {told}"
        )
    return next(iter(counts.values()))


def classes_of_both(teacher: nn.Module, student: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """The number of classes of both."""
    classes = classes_of_teacher(teacher, image_shape)
    student_classes = count_classes(student, image_shape, "student", modes=(True, False))
    if student_classes != classes:
        raise UsageError(
            f"the student answers with {student_classes} classes and the teacher with {classes}: "
            f"build the student with {classes} classes"
        )
    return classes


def refuse_unmixable_stage(student: nn.Module, path: str, image_shape: tuple[int, int, int]) -> None:
    """Checks that the student's submodule ``path`` runs once in a forward pass and returns [B, ...]."""
    paths = [name for name, _ in student.named_modules() if name]
    if path not in paths:
        raise unknown_name("stage of the student", path, paths)
    images = example_images(student, image_shape)
    outputs: list[object] = []
    hook = student.get_submodule(path).register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        with torch.no_grad():
            student.eval()(images)
    finally:
        hook.remove()
    if len(outputs) != 1:
        raise UsageError(
            f"the student's {path!r} runs {len(outputs)} times in a forward pass: name a stage that runs once"
        )
    if not isinstance(outputs[0], Tensor) or outputs[0].shape[:1] != images.shape[:1]:
        raise UsageError(
            f"the student's {path!r} returns no tensor with one entry per image: name another stage"
        )
