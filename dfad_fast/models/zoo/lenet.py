"""LeNet-5 and its half, the MNIST pair of the DFAD paper (arXiv 1912.11006)."""

from __future__ import annotations

from torch import Tensor, nn

from dfad_fast.errors import UsageError


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max-pooling for images of 28 or 32 pixels a side.

    ``widths`` are the output widths of its three 5x5 convolutions and its hidden linear layer. Images of 28 pixels are
    padded by two on every side in the first convolution, so that the third sees 5x5 features.

    Maps images [B, C, S, S], with side S of 28 or 32, to logits [B, classes]. Raises UsageError for another side.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        widths: tuple[int, int, int, int] = (6, 16, 120, 84),
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if (height, width) not in {(28, 28), (32, 32)}:
            raise UsageError(
                f"LeNet-5 takes images of 28x28 or 32x32 pixels, got {height}x{width}: choose another network"
            )
        a, b, c, hidden = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, a, 5, padding=2 if height == 28 else 0),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(a, b, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(b, c, 5),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(c, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        return self.classifier(self.features(images))
