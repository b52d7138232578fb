"""Teachers too large for one process, sharded by torch.distributed.fsdp.fully_shard.

It gathers each layer's weights when the layer runs.
"""

from __future__ import annotations

from torch import nn

from dfad_fast.distributed import processes


def is_sharded(network: nn.Module) -> bool:
    """Whether ``fully_shard`` was applied to ``network`` or to a part of it."""
    if processes.count() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(module, FSDPModule) for module in network.modules())
