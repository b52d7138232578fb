"""The stages of residual networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

Block = Callable[[int, int, int], nn.Module]
"""Called with the input channels, the output channels and the stride."""


def residual_stages(
    block: Block, depths: Sequence[int], widths: Sequence[int], channels: int
) -> nn.Sequential:
    """``depths[i]`` blocks of ``widths[i]`` channels for each stage; each stage after the first halves the side.

    ``channels`` is the number of input channels of the first stage.
    """
    stages = []
    for index, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        stage = []
        for position in range(depth):
            stage.append(block(channels, width, 2 if position == 0 and index > 0 else 1))
            channels = width
        stages.append(nn.Sequential(*stage))
    return nn.Sequential(*stages)
