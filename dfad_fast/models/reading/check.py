"""Checks that a network maps images of a given shape to logits."""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.models.black_box import BlackBoxTeacher, refuse_hidden_black_box
from dfad_fast.models.reading.answers import find_logits
from dfad_fast.private_torch import is_batch_norm

DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def as_image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width). Raises UsageError for anything else."""
    try:
        channels, height, width = map(operator.index, shape)
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        got = list(shape) if isinstance(shape, Iterable) and not isinstance(shape, str) else repr(shape)
        raise UsageError(
            f"the image shape must be CHANNELS,HEIGHT,WIDTH, each at least 1, such as 3,32,32; got {got}"
        )
    return channels, height, width


def device_of(network: nn.Module) -> torch.device:
    """The device of its first parameter, or of its first buffer if it has no parameters; the CPU if it has neither."""
    first = next(itertools.chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def image_dtype(network: nn.Module) -> torch.dtype:
    """The floating-point type of most of its weights, which its images must have; float32 if it has no weights."""
    weights: Counter[torch.dtype] = Counter()
    for parameter in network.parameters():
        if parameter.is_floating_point():
            weights[parameter.dtype] += 1 if is_lazy(parameter) else parameter.numel()
    return weights.most_common(1)[0][0] if weights else torch.float32


def owns_tensors(module: nn.Module) -> bool:
    """Whether ``module`` itself, and not only its children, has a parameter or buffer."""
    own = itertools.chain(module.parameters(recurse=False), module.buffers(recurse=False))
    return next(own, None) is not None


def is_lazy(parameter: Tensor) -> bool:
    """Whether it gets its shape only from the first images."""
    return isinstance(parameter, UninitializedParameter | UninitializedBuffer)


def example_images(network: nn.Module, image_shape: tuple[int, int, int], count: int = 2) -> Tensor:
    """All-zero images on the device and in the type of ``network``."""
    return torch.zeros(count, *image_shape, device=device_of(network), dtype=image_dtype(network))


def noise_images(network: nn.Module, image_shape: tuple[int, int, int], count: int) -> Tensor:
    """Images of normal noise, the same each time, on the device and in the type of ``network``."""
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(count, *image_shape, generator=source, device="cpu")
    return noise.to(device_of(network), image_dtype(network))


def give_shapes(network: nn.Module, image_shape: tuple[int, int, int], what: str) -> None:
    """Runs a network with lazy layers on its first images. Raises UsageError if it cannot take them."""
    if not any(map(is_lazy, (*network.parameters(), *network.buffers()))):
        return
    modes = modes_of(network)
    try:
        with torch.no_grad():
            network.eval()(example_images(network, image_shape))
    except Exception as error:
        raise _cannot_take(what, image_shape, error) from error
    finally:
        set_modes(modes)


def count_classes(
    network: nn.Module, image_shape: tuple[int, int, int], what: str, modes: Iterable[bool] = (False,)
) -> int:
    """The number of classes in the answers of ``network``, in eval mode, or in all ``modes`` (True is training).

    A black box states it itself and does not run.

    The network is left unchanged. Raises UsageError if it holds a black box, if it cannot take the images, if its
    answer holds no tensor [B, classes] (see :func:`dfad_fast.models.reading.answers.find_logits`), or if that has a
    single logit.
    """
    if isinstance(network, BlackBoxTeacher):
        return network.classes
    refuse_hidden_black_box(network, what)
    classes = 0
    try:
        give_shapes(network, image_shape, what)
        images = example_images(network, image_shape)
        for mode in modes:
            with left_as_it_was(network), torch.no_grad(), torch.random.fork_rng(devices=_cuda(images)):
                answer = network.train(mode)(images)
            classes = _classes(answer, len(images), what)
    except UsageError:
        raise
    except Exception as error:
        raise _cannot_take(what, image_shape, error) from error
    return classes


def _cannot_take(what: str, image_shape: tuple[int, int, int], error: Exception) -> UsageError:
    return UsageError(
        f"the {what} cannot take images of shape {list(image_shape)} (channels, height, width): "
        f"{in_one_line(error)}: use the image shape that it was trained on, or, if it needs other inputs than a float "
        "tensor of images, wrap it in a module that passes them"
    )


def depends_on_batch(network: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether, in training, the answer to an image depends on the rest of its batch or on random numbers.

    True for batch norm and dropout. Other layers with this effect show it in the answers to a few images; if the
    network cannot take so few, the result is True. The network is left unchanged.
    """
    if any(is_batch_norm(module) or isinstance(module, DROPOUT) for module in network.modules()):
        return True
    images = noise_images(network, image_shape, 4)
    try:
        with left_as_it_was(network), torch.no_grad(), torch.random.fork_rng(devices=_cuda(images)):
            network.train()
            whole = network(images)
            parts = torch.cat([network(part) for part in images.split(2)])
    except Exception:  # such as from a network with a fixed batch size
        return True
    if whole.shape != parts.shape:
        return True
    spread = (whole - whole.mean(0)).abs().max().item()
    return not torch.allclose(whole, parts, rtol=0.0, atol=1e-3 * spread)


@contextmanager
def left_as_it_was(network: nn.Module) -> Iterator[None]:
    """On exit, restores the network's buffers and modes."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    modes = modes_of(network)
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values in kept:
                buffer.copy_(values)
                if getattr(module, name, None) is not buffer:
                    setattr(module, name, buffer)
        set_modes(modes)


def modes_of(network: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Each module's mode, for :func:`set_modes`."""
    # A program of torch.jit.freeze has no modes.
    return [(module, module.training) for module in network.modules() if hasattr(module, "training")]


def set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Restores the modes from :func:`modes_of`."""
    for module, training in modes:
        module.training = training


def _classes(answer: Any, batch: int, what: str) -> int:
    logits = find_logits(answer, batch)
    if logits is None:
        came = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UsageError(
            f"the {what} must map images [B, C, H, W] to logits [B, classes]; for {batch} images it returned "
            f"{came}: wrap it in a module that returns only the logits"
        )
    if logits.shape[1] < 2:
        raise UsageError(
            f"the {what} answers with {logits.shape[1]} logit; at least 2 classes are needed. For a logit whose "
            "sign means yes or no, wrap it in a module that returns torch.cat((torch.zeros_like(y), y), 1)"
        )
    return logits.shape[1]


def _cuda(tensor: Tensor) -> list[torch.device]:
    return [tensor.device] if tensor.device.type == "cuda" else []
