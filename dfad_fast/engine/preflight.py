"""Checks of the user's networks before setup: finds what would fail late or teach a student nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dfad_fast.errors import DFADFastWarning, UsageError, in_one_line
from dfad_fast.memory import GIB, free_memory
from dfad_fast.models.black_box import is_black_box
from dfad_fast.models.ensemble import named_members
from dfad_fast.models.reading.check import is_lazy, left_as_it_was, noise_images

# A lower bound for any generator made here: channels of its last features, and of its first ones.
_FEWEST_CHANNELS = 16
# Weights, their gradients and Adam's two averages.
_COPIES_OF_WEIGHTS = 4
# Images, their gradients, and either a mixture of images or the features that they are made from.
_COPIES_OF_IMAGES = 3
_LOOKED_AT = 16


def refuse_unfit(teacher: nn.Module, student: nn.Module) -> None:
    """Raises UsageError for networks that share weights, or whose weights allow no gradient or are not finite."""
    if teacher is student:
        raise UsageError(
            "teacher and student are the same network: pass copy.deepcopy(teacher) as the student, or another network"
        )
    if is_black_box(student):
        raise UsageError("the student is a black box, which has nothing to train: give a network")
    of_teacher = {id(p): name for name, p in teacher.named_parameters()}
    for name, parameter in student.named_parameters():
        if id(parameter) in of_teacher:
            raise UsageError(
                f"the student's {name} is the teacher's {of_teacher[id(parameter)]}, so training would change the "
                "teacher: build the student with its own weights, such as by copy.deepcopy"
            )
    for what, network in (("teacher", teacher), ("student", student)):
        for name, values in _numbers(network):
            if values.is_inference():
                raise UsageError(
                    f"the {what} was built inside torch.inference_mode(), which allows no gradient: build it outside"
                )
            if not bool(values.isfinite().all()):
                raise UsageError(
                    f"the {what}'s {name} holds NaN or infinite values: use weights that were saved before it diverged"
                )


def _numbers(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and running statistics. Other buffers, such as attention masks, may be infinite on purpose."""
    for name, parameter in network.named_parameters():
        if parameter.device.type == "meta":
            raise UsageError(
                f"{name} is on the meta device, without values: load weights into the network first"
            )
        if not is_lazy(parameter) and (parameter.is_floating_point() or parameter.is_complex()):
            yield name, parameter.detach()
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")) and not is_lazy(buffer):
            yield name, buffer


def refuse_unaffordable(
    image_shape: tuple[int, int, int],
    batch_size: int,
    latent_dim: int,
    device: torch.device,
    dtype: torch.dtype,
    own_generator: bool,
) -> None:
    """Raises UsageError if even the images, and a generator if it is made here, do not fit into the free memory.

    Args:
        image_shape: (C, H, W).
        batch_size: images of a batch in this process.
        latent_dim: numbers from which the generator makes an image.
        device: where the run computes.
        dtype: that of images and weights.
        own_generator: whether the generator is made by name.
    """
    pixels = image_shape[1] * image_shape[2]
    values = _COPIES_OF_IMAGES * batch_size * math.prod(image_shape)
    if own_generator:
        values += 2 * batch_size * _FEWEST_CHANNELS * pixels
        values += _COPIES_OF_WEIGHTS * latent_dim * 2 * _FEWEST_CHANNELS * (pixels // 16)
    needed, free = values * dtype.itemsize, free_memory(device)
    if free is not None and needed > free:
        raise UsageError(
            f"batches of {batch_size:,} images {list(image_shape)} made from {latent_dim:,} numbers each need at least "
            f"{needed / GIB:,.1f} GiB of memory on {device}, but {free / GIB:,.1f} GiB are free: use a smaller "
            "batch_size, image_shape or latent_dim"
        )


def look_at_answers(
    teacher: nn.Module, image_shape: tuple[int, int, int], batch_size: int, generator_reads_student: bool
) -> None:
    """Warns if the teacher returns probabilities, or if no gradient flows through it to its images.

    Checks each member of an ensemble separately.

    Raises:
        UsageError: its logits are not finite, or no gradient flows and the generator has no other loss.
    """
    for what, member in named_members(teacher):
        _look_at(member, what, image_shape, batch_size, generator_reads_student)


def _look_at(
    teacher: nn.Module,
    what: str,
    image_shape: tuple[int, int, int],
    batch_size: int,
    generator_reads_student: bool,
) -> None:
    images = noise_images(teacher, image_shape, min(_LOOKED_AT, batch_size)).requires_grad_()
    devices = [images.device] if images.device.type == "cuda" else []
    try:
        with left_as_it_was(teacher), torch.enable_grad(), torch.random.fork_rng(devices=devices):
            answer = teacher.eval()(images)
    except Exception as error:  # the user's code may raise anything
        raise UsageError(
            f"the {what} cannot take images {list(images.shape)} that require a gradient: {in_one_line(error)}: give "
            "the image shape and batch size that it was made for"
        ) from error
    logits = answer.detach()
    if not bool(logits.isfinite().any(1).all()) or bool(logits.isnan().any()):
        raise UsageError(
            f"the {what} returns NaN or infinite logits for images of normal noise: check its weights, and that it "
            "expects images with mean 0 and deviation 1"
        )
    if kind := _probabilities(answer):
        end = "sigmoid" if kind == "sigmoids" else "softmax"
        _warn(
            f"the {what} returns {kind}, not logits, but methods compare logits: remove the {end} at its end, or "
            "wrap the teacher in a module that does"
        )
    if not answer.requires_grad:
        text = (
            f"no gradient flows through the {what} to its images (it runs under torch.no_grad(), or is quantized or "
            "frozen as a program)"
        )
        if not generator_reads_student:
            raise UsageError(
                f"{text}, but the generator learns from nothing else: choose a method such as dfad"
            )
        _warn(f"{text}: the generator learns only from the student's answers")


def _probabilities(answer: Tensor) -> str | None:
    """What the rows are instead of logits, or None."""
    # Values between 0 and 1 may be logits, so the operation that made them decides.
    if answer.grad_fn is not None and answer.grad_fn.name() == "SigmoidBackward0":
        return "sigmoids"
    logits = answer.detach().double()
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), logits.new_ones(()), atol=1e-3):
        return "probabilities"
    if bool((logits <= 0).all()) and torch.allclose(logits.exp().sum(1), logits.new_ones(()), atol=1e-3):
        return "log-probabilities"
    return None


def _warn(text: str) -> None:
    warnings.warn(text, DFADFastWarning, stacklevel=4)
