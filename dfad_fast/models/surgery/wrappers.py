"""Removes wrappers around a network: torch.compile, data parallel training, averaged weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from dfad_fast.models.loading.programs import Program
from dfad_fast.models.reading.check import modes_of, set_modes
from dfad_fast.private_torch import compiled_module, is_compiled_in_place

_WRAPPERS = (DataParallel, DistributedDataParallel, AveragedModel)


def unwrapped(network: nn.Module) -> nn.Module:
    """The uncompiled network inside any nesting of DataParallel, DistributedDataParallel and AveragedModel.

    Its modules can be read and folded, and its weights have the plain network's names. A program of torch.export
    becomes a network with a single mode.
    """
    while True:
        if (inner := compiled_module(network)) is not None:
            network = inner
        elif isinstance(network, _WRAPPERS):
            network = network.module
        elif isinstance(network, torch.fx.GraphModule | torch.jit.ScriptModule) and not _has_modes(network):
            return Program(network)
        elif is_compiled_in_place(network):
            network = copy.copy(network)  # a copy is not compiled but shares everything else
        else:
            return network


def _has_modes(network: nn.Module) -> bool:
    """Programs of torch.export cannot change their mode, and those of torch.jit.freeze have none."""
    if not hasattr(network, "training"):
        return False
    modes = modes_of(network)
    try:
        network.train(network.training)
    except NotImplementedError:
        return False
    finally:
        set_modes(modes)
    return True
