"""The generator of DFAD (arXiv 1912.11006): noise to images in the teacher's normalized input space."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast import backends
from dfad_fast.distributed import processes
from dfad_fast.models.reading.batch_norm import pooled
from dfad_fast.models.surgery.sync_batch_norm import (
    follow,
    is_synchronized,
    own_statistics,
    synchronize,
)
from dfad_fast.ops import generator_block


class DFADGenerator(nn.Module):
    """Linear, then nearest upsampling and a 3x3 convolution, both twice, then a 3x3 convolution to the image.

    A batch norm without affine parameters follows the tanh, so every channel of a batch of images has mean 0 and
    variance 1, like normalized data. ``width`` is the number of channels of the first two stages, 128 as published; the
    third has half of it. The published form starts at a quarter of the side. If the side is not a multiple of 4, the
    quarter is rounded up and the last upsampling gives the exact size.

    In training on the CPU in float32, batch norm, LeakyReLU, upsampling and convolution run as one op
    (:func:`dfad_fast.ops.generator_block`) unless ``fused`` is False; weights and results are the same, but the layers'
    hooks do not run.

    Maps noise [B, latent_dim] to images [B, *image_shape].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 100,
        width: int = 128,
        fused: bool = True,
    ) -> None:
        super().__init__()
        channels, height, side = image_shape
        half = (-(-height // 2), -(-side // 2))
        quarter = (-(-height // 4), -(-side // 4))
        self.latent_dim = latent_dim
        self.fused = fused
        self._doubles = height % 4 == 0 and side % 4 == 0
        self.project = nn.Sequential(
            nn.Linear(latent_dim, width * quarter[0] * quarter[1]),
            nn.Unflatten(1, (width, *quarter)),
            nn.BatchNorm2d(width),
        )
        self.upsample = nn.Sequential(
            nn.Upsample(size=half),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample(size=(height, side)),
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Images [B, C, H, W] from noise [B, latent_dim]."""
        if self._can_fuse(noise):
            return self._forward_fused(noise)
        return self.upsample(self.project(noise))

    def _can_fuse(self, noise: Tensor) -> bool:
        return self.fused and self._doubles and self.training and backends.native_on_cpu(noise)

    def _forward_fused(self, noise: Tensor) -> Tensor:
        linear = cast(nn.Linear, self.project[0])
        width, height, side = cast(nn.Unflatten, self.project[1]).unflattened_size
        # Reorders the linear layer's rows to channels_last instead of its much larger result.
        weight = linear.weight.unflatten(0, (width, height * side)).transpose(0, 1).flatten(0, 1)
        bias = linear.bias.unflatten(0, (width, height * side)).t().flatten()
        x = F.linear(noise, weight, bias).unflatten(1, (height, side, width)).permute(0, 3, 1, 2)
        layers = self.upsample
        x, known = _block(x, None, self.project[2], layers[1], upsample=2, slope=1.0)
        x, known = _block(x, known, layers[2], layers[5], upsample=2, slope=_slope(layers[3]))
        x, _ = _block(x, known, layers[6], layers[8], upsample=1, slope=_slope(layers[7]))
        return layers[10](layers[9](x))


def _slope(activation: nn.Module) -> float:
    return cast(nn.LeakyReLU, activation).negative_slope


def _block(
    x: Tensor, statistics: Tensor | None, norm: nn.Module, convolution: nn.Module, upsample: int, slope: float
) -> tuple[Tensor, Tensor]:
    """Also returns the result's statistics, with which the next block normalizes."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(convolution, nn.Conv2d)
    weight: Tensor = norm.weight
    bias: Tensor = norm.bias
    values = x.numel() // x.shape[1]
    if is_synchronized(norm):
        statistics = pooled(own_statistics(x) if statistics is None else statistics)
        x, weight, bias = synchronize(x, weight, bias, statistics, norm.eps, own_removed=True)
        values *= processes.count()
    out, found, out_statistics = generator_block(
        x,
        convolution.weight,
        convolution.bias,
        weight,
        bias,
        upsample=upsample,
        slope=slope,
        eps=norm.eps,
        statistics=statistics,
    )
    follow(norm, found, values)
    return out, out_statistics
