"""The features that a classifier's last linear layer takes: what it knows of an image before it names a class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError


def find_last_layer(network: nn.Module, images: Tensor) -> str:
    """The path of the linear layer that answers with the logits for ``images`` [B, C, H, W], in eval mode.

    Raises UsageError where the last linear layer that runs takes no features [B, D], or none runs.
    """
    ran: list[tuple[str, torch.Size]] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, path=path: ran.append((path, inputs[0].shape)))
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran or len(ran[-1][1]) != 2:
        raise UsageError(
            "the teacher does not end in a linear layer on features [B, D], which a record is about: choose a method "
            "without a record"
        )
    return ran[-1][0]


@contextmanager
def record_last_features(network: nn.Module, path: str) -> Iterator[list[Tensor]]:
    """Yields a list that holds, after a forward pass, the input [B, D] of the linear layer at ``path``."""
    features: list[Tensor] = []
    layer = network.get_submodule(path)
    hook = layer.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    try:
        yield features
    finally:
        hook.remove()
