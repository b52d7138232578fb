"""An image of any size, cropped and resized to a shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""


def fitted(image: Image, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The image in ``shape``, uint8 [C, H, W].

    It is rotated according to its EXIF orientation, becomes gray for 1 channel or RGB for 3, is center-cropped to the
    aspect of ``shape``, and resized with antialiasing (bicubic).
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    channels, height, width = shape
    # Decodes a JPEG file no larger than needed.
    image.draft(MODES[channels], (2 * width, 2 * height))
    upright: Any = ImageOps.exif_transpose(image)
    pixels = np.asarray(ImageOps.fit(upright.convert(MODES[channels]), (width, height), Resampling.BICUBIC))
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)
