"""DCGAN's generator as DFAD uses it for images of 64 to 256 pixels (arXiv 1511.06434, 1912.11006)."""

from __future__ import annotations

from torch import Tensor, nn


class DCGANGenerator(nn.Module):
    """Linear, then four transposed 4x4 convolutions that each double the side, then a 3x3 convolution to the image.

    It starts at a sixteenth of the side, rounded up, and crops the excess before the last convolution. ``width`` is the
    number of channels at full size, 64 as published; there are eight times as many at the start. The published form
    ends with the tanh. Here a batch norm without affine parameters follows, as in DFAD's other generator, so that the
    images lie in the teacher's normalized input space and not between -1 and 1.

    Maps noise [B, latent_dim] to images [B, *image_shape].
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int = 100, width: int = 64) -> None:
        super().__init__()
        channels, self._height, self._side = image_shape
        start = (-(-self._height // 16), -(-self._side // 16))
        self.latent_dim = latent_dim
        self.project = nn.Sequential(
            nn.Linear(latent_dim, 8 * width * start[0] * start[1]),
            nn.Unflatten(1, (8 * width, *start)),
            nn.BatchNorm2d(8 * width),
        )
        layers: list[nn.Module] = []
        for before, after in ((8, 4), (4, 2), (2, 1), (1, 1)):
            layers += [
                nn.ConvTranspose2d(before * width, after * width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after * width),
                nn.LeakyReLU(0.2),
            ]
        self.upsample = nn.Sequential(*layers)
        self.image = nn.Sequential(
            nn.Conv2d(width, channels, 3, padding=1), nn.Tanh(), nn.BatchNorm2d(channels, affine=False)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                nn.init.normal_(module.weight, mean=1.0, std=0.02)

    def forward(self, noise: Tensor) -> Tensor:
        """Images [B, C, H, W] from noise [B, latent_dim]."""
        features = self.upsample(self.project(noise))
        return self.image(features[:, :, : self._height, : self._side])
