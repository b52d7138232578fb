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
    """The loss as a module, since DistributedDataParallel averages the gradients of one."""

    def __init__(self, compute: Callable[..., Any], trained: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.trained = nn.ModuleList(trained)
        self._compute = compute
        if next(self.parameters()).device.type == "cpu":
            # Where the graph holds every parameter, torch says on standard error that it looked for others in vain. On
            # GPUs that line is the lesser evil: for a parameter that no graph holds torch waits for the device.
            self.in_no_graph = nn.Parameter(torch.zeros((), device="cpu"))

    def forward(self, *args: Any) -> Any:
        return self._compute(*args)


def averaging_gradients(compute: F, *trained: nn.Module) -> F:
    """``compute``, whose backward averages the gradients of ``trained`` over the processes, where there are several.

    They are averaged while backward runs. Before each call the others get the first process's running statistics.
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
