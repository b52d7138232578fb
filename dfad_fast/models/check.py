"""Does a network map images of a given shape to logits?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dfad_fast.errors import UsageError


def as_image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width). Raises UsageError for anything else."""
    values = tuple(int(side) for side in shape)
    if len(values) != 3 or min(values) < 1:
        raise UsageError(
            f"the image shape is CHANNELS,HEIGHT,WIDTH, each at least 1, such as 3,32,32; got {list(values)}"
        )
    return values


def example_images(network: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Two all-zero images where and in what precision the network's parameters are."""
    parameter = next(network.parameters(), torch.empty(0))
    return torch.zeros(2, *image_shape, device=parameter.device, dtype=parameter.dtype)


def count_classes(
    network: nn.Module, image_shape: tuple[int, int, int], what: str, modes: Iterable[bool] = (False,)
) -> int:
    """The number of classes that ``network`` answers with, in eval mode, or in all ``modes`` (True is training).

    The network is left as it was. Raises UsageError where it cannot take the images or answers with anything
    but a tensor [B, classes].
    """
    images = example_images(network, image_shape)
    classes = 0
    try:
        for mode in modes:
            with _left_as_it_was(network), torch.no_grad(), torch.random.fork_rng(devices=_cuda(images)):
                logits = network.train(mode)(images)
            classes = _classes(logits, len(images), what)
    except UsageError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"the {what} cannot take images of shape {list(image_shape)} (channels, height, width): {reason}: "
            "give the image shape that it was trained on"
        ) from error
    return classes


def depends_on_batch(network: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether in training the answer to an image depends on the other images of its batch, or on chance.

    So it is with batch norm and dropout; what does the same under another name shows in the answers to a few images.
    The network is left as it was.
    """
    if any(isinstance(module, (_BatchNorm, _DropoutNd)) for module in network.modules()):
        return True
    like = example_images(network, image_shape)
    source = torch.Generator().manual_seed(0)
    images = torch.randn(4, *image_shape, generator=source).to(like)
    with _left_as_it_was(network), torch.no_grad(), torch.random.fork_rng(devices=_cuda(images)):
        network.train()
        whole = network(images)
        parts = torch.cat([network(part) for part in images.split(2)])
    spread = (whole - whole.mean(0)).abs().max().item()
    return not torch.allclose(whole, parts, rtol=0.0, atol=1e-3 * spread)


@contextmanager
def _left_as_it_was(network: nn.Module) -> Iterator[None]:
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    was_training = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        network.load_state_dict(kept)
        for module, training in was_training.items():
            module.training = training


def prefer_channels_last(network: nn.Module, images: Tensor) -> None:
    """Keeps ``network``'s weights in channels_last, which is faster, if it runs on ``images`` that way.

    A network that flattens features with ``view`` does not; its weights stay as they were.
    """
    network.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            network(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        network.to(memory_format=torch.contiguous_format)


def _classes(logits: object, batch: int, what: str) -> int:
    if isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[0] == batch:
        return logits.shape[1]
    came = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    raise UsageError(
        f"the {what} must map images [B, C, H, W] to logits [B, classes]; for {batch} images it gave {came}: "
        "wrap it in a module that returns the logits alone"
    )


def _cuda(tensor: Tensor) -> list[torch.device]:
    return [tensor.device] if tensor.device.type == "cuda" else []
