"""The generator of DFAD (arXiv 1912.11006): noise to images in the teacher's normalised input space."""

from __future__ import annotations

from torch import Tensor, nn


class DFADGenerator(nn.Module):
    """Linear, then twice nearest-upsampling and a 3x3 convolution, then a 3x3 convolution to the image.

    The tanh is followed by a batch norm without affine parameters, so every channel of a batch of images has
    mean 0 and variance 1, like normalised data. ``width`` is the number of channels of the first two stages,
    128 as published; the third has half of it. The published form starts at a quarter of the side; a side
    that is no multiple of 4 starts at the next larger quarter and is upsampled to its exact size.

    Maps noise [B, latent_dim] to images [B, *image_shape].
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int = 100, width: int = 128) -> None:
        super().__init__()
        channels, height, side = image_shape
        half = (-(-height // 2), -(-side // 2))
        quarter = (-(-height // 4), -(-side // 4))
        self.latent_dim = latent_dim
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
        return self.upsample(self.project(noise))
