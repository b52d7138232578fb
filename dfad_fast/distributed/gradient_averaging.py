"""A loss of modules whose gradients are averaged over the processes of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfad_fast.distributed import processes

F = TypeVar("F", bound=Callable[..., Any])


class _Loss(nn.Module):
    """The loss as a module, since DistributedDataParallel averages the gradients of one."""

    def __init__(self, compute: Callable[..., Any], trained: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.trained = nn.ModuleList(trained)
        self._compute = compute
        if next(self.parameters()).device.type == "cpu":
            # Of a loss that all parameters are in, torch says on standard error that looking for others was in vain.
            # On GPUs that is better than one which is not, for which it waits for the device.
            self.in_no_graph = nn.Parameter(torch.zeros((), device="cpu"))

    def forward(self, *args: Any) -> Any:
        return self._compute(*args)


def spread(compute: F, *trained: nn.Module) -> F:
    """``compute``, and where there are several processes such that backward averages the gradients of ``trained``,
    while it goes on. The first process's running statistics go to the others before each call.

    A network that checkpoints its activations has to do it with ``use_reentrant=False``.
    """
    if processes.count() == 1 or not any(p.requires_grad for m in trained for p in m.parameters()):
        return compute
    return DistributedDataParallel(  # type: ignore[return-value]
        _Loss(compute, trained),
        # A connector that no term reads, or a part of a student that this batch did not go through.
        find_unused_parameters=True,
        # All start alike, see copy_from_first.
        init_sync=False,
    )
