"""``samples/``: small sheets of the same generated images at about ten moments of a run. Each is a PNG file that also
tells what both networks saw in them.

The images are those of the run's held-out noise, so that from sheet to sheet one sees the same images change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dfad_fast.reporting import pictures

FOLDER = "samples"
IMAGES = 32
_COLUMNS = 8
_LARGEST = 48  # pixels a side: larger images are shrunk to it
_GAP = 1
_MOMENTS = 10
_TOLD = "dfad_fast"  # the PNG file's text chunk


@dataclass(frozen=True)
class Sheet:
    """Images [N, H, W, 1 or 3] of uint8 at an iteration, and the labels [N] that both networks gave them."""

    iteration: int
    generated_images: int
    images: np.ndarray
    teacher: list[int]
    student: list[int]


def is_due(iteration: int, evaluate_every: int, planned_iterations: int) -> bool:
    """Whether a sheet is drawn: at the first evaluation, and the first in each tenth of the run. Depends on nothing
    else, so that a resumed run goes on with the same moments."""
    if iteration % evaluate_every:
        return False
    before = iteration - evaluate_every
    return before == 0 or _MOMENTS * iteration // planned_iterations > _MOMENTS * before // planned_iterations


def lay_out(images: Tensor, teacher: Tensor, student: Tensor, iteration: int, generated_images: int) -> Sheet:
    """The first of the images [N, C, H, W] from 0 to 1. Of other than 1 or 3 channels the first is shown."""
    shown = images[:IMAGES].float()
    if shown.shape[1] != 3:
        shown = shown[:, :1]
    shown = pictures.shrink(shown, _LARGEST)
    pixels = (255 * shown.permute(0, 2, 3, 1)).round().byte().cpu().numpy()
    return Sheet(iteration, generated_images, pixels, teacher[:IMAGES].tolist(), student[:IMAGES].tolist())


def grid(sheet: Sheet) -> np.ndarray:
    """The images in rows, white lines between them: uint8 [H, W, 1 or 3]."""
    count, height, width, channels = sheet.images.shape
    rows = -(-count // _COLUMNS)
    shape = (rows * (height + _GAP) - _GAP, _COLUMNS * (width + _GAP) - _GAP, channels)
    drawn = np.full(shape, 255, np.uint8)
    for image, (top, left) in zip(sheet.images, _corners(count, height, width), strict=True):
        drawn[top : top + height, left : left + width] = image
    return drawn


def _corners(count: int, height: int, width: int) -> list[tuple[int, int]]:
    return [
        (index // _COLUMNS * (height + _GAP), index % _COLUMNS * (width + _GAP)) for index in range(count)
    ]


def file_of(folder: Path, iteration: int) -> Path:
    """In the run's folder."""
    return folder / FOLDER / f"{iteration:06d}.png"


def iteration_of(path: Path) -> int:
    """-1 of a file that is none of ours."""
    digits = path.stem.isdecimal() and path.stem.isascii()
    return int(path.stem) if digits and path == file_of(path.parent.parent, int(path.stem)) else -1


def all_of(folder: Path) -> list[Path]:
    """Those that are there, the first one first."""
    paths = [path for path in (folder / FOLDER).glob("*.png") if iteration_of(path) >= 0]
    return sorted(paths, key=iteration_of)


def save(sheet: Sheet, path: Path) -> None:
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
    drawn = grid(sheet)
    Image.fromarray(drawn if drawn.shape[2] == 3 else drawn[..., 0]).save(path, pnginfo=told, optimize=True)


def read(path: Path) -> Sheet:
    """Raises ValueError for a file that :func:`save` did not write, or that is damaged."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            drawn = np.atleast_3d(np.asarray(picture))
            told = json.loads(picture.info[_TOLD])
        height, width = (int(side) for side in told["side"])
        teacher, student = ([int(label) for label in told[name]] for name in ("teacher", "student"))
        corners = _corners(len(teacher), height, width)
        images = np.stack([drawn[top : top + height, left : left + width] for top, left in corners])
        if images.shape[1:3] != (height, width) or len(student) != len(teacher) or not images.size:
            raise ValueError("labels and images differ in number or size")
        return Sheet(int(told["iteration"]), int(told["generated_images"]), images, teacher, student)
    except Exception as error:  # as many kinds as there are ways in which a picture is damaged
        raise ValueError(f"{path} is no sheet of generated images: {error}") from error
