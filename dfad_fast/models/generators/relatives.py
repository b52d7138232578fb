"""The published generators of ZSKT and DAFL, which have the form of DFAD's."""

from __future__ import annotations

from torch import nn

from dfad_fast.models.generators.dfad import DFADGenerator


class ZSKTGenerator(DFADGenerator):
    """The generator of zero-shot knowledge transfer (Micaelli and Storkey 2019, arXiv 1905.09768).

    It ends in a batch norm with learned scale and shift, without a tanh before it.

    Maps noise [B, latent_dim] to images [B, *image_shape].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 100,
        width: int = 128,
        fused: bool = True,
    ) -> None:
        super().__init__(image_shape, latent_dim, width, fused)
        self.upsample[9] = nn.Identity()
        self.upsample[10] = nn.BatchNorm2d(image_shape[0])


class DAFLGenerator(DFADGenerator):
    """The generator of data-free learning (Chen et al. 2019, arXiv 1904.01186).

    The batch norms that follow convolutions add 0.8 to the variance instead of 1e-5.

    Maps noise [B, latent_dim] to images [B, *image_shape].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 100,
        width: int = 128,
        fused: bool = True,
    ) -> None:
        super().__init__(image_shape, latent_dim, width, fused)
        for norm in (self.upsample[2], self.upsample[6]):
            assert isinstance(norm, nn.BatchNorm2d)
            norm.eps = 0.8
