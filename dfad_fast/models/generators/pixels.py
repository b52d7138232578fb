"""The generator of model inversion: DFAD's with pixel output (Fang et al. 2021, arXiv 2105.08584; 2112.06253)."""

from __future__ import annotations

from torch import Tensor, nn

from dfad_fast.models.generators.dfad import DFADGenerator


class Normalize(nn.Module):
    """Maps pixels [B, C, H, W] from 0 to 1 to the teacher's input space; ``mean`` and ``std`` are [C, 1, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Subtracts ``mean`` and divides by ``std``."""
        return (pixels - self.mean) / self.std


class PixelGenerator(DFADGenerator):
    """DFAD's generator with a sigmoid at its end; its pixels are normalized like the teacher's images.

    ``normalization`` is their mean and standard deviation, [C, 1, 1] each. If it is unknown (None), a batch norm
    without affine parameters normalizes.

    Maps noise [B, latent_dim] to images [B, *image_shape].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 256,
        width: int = 128,
        fused: bool = True,
        normalization: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(image_shape, latent_dim, width, fused)
        self.upsample[9] = nn.Sigmoid()
        if normalization is not None:
            self.upsample[10] = Normalize(*normalization)
