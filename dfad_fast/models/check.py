"""Does a network map images of a given shape to logits?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError


def example_images(network: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Two all-zero images where and in what precision the network's parameters are."""
    parameter = next(network.parameters(), torch.empty(0))
    return torch.zeros(2, *image_shape, device=parameter.device, dtype=parameter.dtype)


def count_classes(network: nn.Module, image_shape: tuple[int, int, int], what: str) -> int:
    """The number of classes that ``network`` (in eval mode) answers with.

    Raises UsageError where it cannot take the images or answers with anything but a tensor [B, classes].
    """
    images = example_images(network, image_shape)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(images)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"the {what} cannot take images of shape {list(image_shape)} (channels, height, width): {reason}: "
            "give the image shape that it was trained on"
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[0] != images.shape[0]:
        came = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(
            f"the {what} must map images [B, C, H, W] to logits [B, classes]; for 2 images it gave {came}: "
            "wrap it in a module that returns the logits alone"
        )
    return logits.shape[1]
