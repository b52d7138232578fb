"""A loss whose gradients are averaged over the processes of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfad_fast.distributed import processes

F = TypeVar("F", bound=Callable[..., Any])


class _Loss(nn.Module):
    """The loss as a module, since DistributedDataParallel averages the gradients of modules."""

    def __init__(self, compute: Callable[..., Any], trained: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.trained = nn.ModuleList(trained)
        self._compute = compute
        if next(self.parameters()).device.type == "cpu":
            # An unused parameter silences torch's warning that no unused parameters were found. On GPUs the warning is
            # the lesser evil, because torch waits for the device to handle an unused parameter.
            self.in_no_graph = nn.Parameter(torch.zeros((), device="cpu"))

    def forward(self, *args: Any) -> Any:
        return self._compute(*args)


def averaging_gradients(compute: F, *trained: nn.Module) -> F:
    """``compute``, with a backward that averages the gradients of ``trained`` over the processes if there are several.

    Gradients are averaged while backward runs. Before each call all processes get the running statistics of the first
    one. A network with activation checkpointing must use ``use_reentrant=False``.
    """
    if processes.count() == 1 or not any(p.requires_grad for m in trained for p in m.parameters()):
        return compute
    return DistributedDataParallel(  # type: ignore[return-value]
        _Loss(compute, trained),
        # For a connector that no term reads, or a part of the student that this batch skipped.
        find_unused_parameters=True,
        # All processes already start equal, see copy_from_first.
        init_sync=False,
    )
