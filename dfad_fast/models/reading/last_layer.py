"""The input features of a classifier's last linear layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dfad_fast.errors import UsageError
from dfad_fast.models.reading.hooks import first_input


def find_last_layer(network: nn.Module, images: Tensor) -> str:
    """The path of the linear layer that returns the logits for ``images`` [B, C, H, W], in eval mode.

    Raises UsageError if the last linear layer to run does not take features [B, D], or if none runs.
    """
    ran: list[tuple[str, int]] = []

    def see(path: str, features: Tensor | None) -> None:
        assert features is not None
        ran.append((path, features.dim()))

    hooks = [
        _watch(module, partial(see, path))
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran or ran[-1][1] != 2:
        raise UsageError(
            "the teacher does not end in a linear layer on features [B, D], which a record needs: choose a method "
            "without a record"
        )
    return ran[-1][0]


@contextmanager
def record_last_features(network: nn.Module, path: str) -> Iterator[list[Tensor]]:
    """Yields a list that holds, after a forward pass, the input [B, D] of the linear layer at ``path``."""
    features: list[Tensor] = []
    hook = _watch(network.get_submodule(path), features.append)
    try:
        yield features
    finally:
        hook.remove()


def _watch(layer: nn.Module, see: Callable[[Any], None]) -> RemovableHandle:
    """Passes the input of ``layer`` to ``see``, whatever the form of the call."""
    return layer.register_forward_pre_hook(
        lambda _, inputs, keywords: see(first_input(inputs, keywords)), with_kwargs=True
    )
