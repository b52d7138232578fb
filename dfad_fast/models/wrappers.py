"""What people wrap around a network: torch.compile, data parallel training, averaged weights."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

_WRAPPERS = (DataParallel, DistributedDataParallel, AveragedModel)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, not compiled, out of any nesting of DataParallel, DistributedDataParallel and AveragedModel.

    Its modules can be read and folded, and its weights have the plain network's names.
    """
    while True:
        # torch.compile's class lies in torch._dynamo, which takes a second to import.
        if type(network).__name__ == "OptimizedModule" and isinstance(network._orig_mod, nn.Module):
            network = network._orig_mod
        elif isinstance(network, _WRAPPERS):
            network = network.module
        elif network._compiled_call_impl is not None:
            network = copy.copy(network)  # by nn.Module.compile(); a copy is not compiled and shares all else
        else:
            return network
