"""A sheet of ``samples/``: images generated at one moment of a run.

It is a PNG file that also records both networks' labels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_COLUMNS = 8
_GAP = 1
_TOLD = "dfad_fast"  # the PNG file's text chunk


@dataclass(frozen=True)
class Sheet:
    """Images [N, H, W, 1 or 3] of uint8 at an iteration, with both networks' labels [N]."""

    iteration: int
    generated_images: int
    images: np.ndarray
    teacher: list[int]
    student: list[int]

    def grid(self) -> np.ndarray:
        """The images in rows, separated by white lines: uint8 [H, W, 1 or 3]."""
        count, height, width, channels = self.images.shape
        rows = -(-count // _COLUMNS)
        shape = (rows * (height + _GAP) - _GAP, _COLUMNS * (width + _GAP) - _GAP, channels)
        pixels = np.full(shape, 255, np.uint8)
        for image, (top, left) in zip(self.images, _corners(count, height, width), strict=True):
            pixels[top : top + height, left : left + width] = image
        return pixels


def save(sheet: Sheet, path: Path) -> None:
    """Writes the sheet as a PNG file."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text(
        _TOLD,
        json.dumps(
            {
                "iteration": sheet.iteration,
                "generated_images": sheet.generated_images,
                "side": sheet.images.shape[1:3],
                "teacher": sheet.teacher,
                "student": sheet.student,
            }
        ),
    )
    pixels = sheet.grid()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(
        path, pnginfo=told, optimize=True
    )


def read(path: Path) -> Sheet:
    """Raises ValueError for a file that :func:`save` did not write, or that is damaged."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            pixels = np.atleast_3d(np.asarray(picture))
            told = json.loads(picture.info[_TOLD])
        height, width = (int(side) for side in told["side"])
        teacher, student = ([int(label) for label in told[name]] for name in ("teacher", "student"))
        corners = _corners(len(teacher), height, width)
        images = np.stack([pixels[top : top + height, left : left + width] for top, left in corners])
        if images.shape[1:3] != (height, width) or len(student) != len(teacher) or not images.size:
            raise ValueError("labels and images differ in number or size")
        return Sheet(int(told["iteration"]), int(told["generated_images"]), images, teacher, student)
    except Exception as error:  # a damaged picture may raise anything
        raise ValueError(f"{path} is not a sheet of generated images: {error}") from error


def _corners(count: int, height: int, width: int) -> list[tuple[int, int]]:
    return [
        (index // _COLUMNS * (height + _GAP), index % _COLUMNS * (width + _GAP)) for index in range(count)
    ]
