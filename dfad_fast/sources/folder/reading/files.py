"""Images in a folder of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from dfad_fast.data.image_file import opened_image
from dfad_fast.errors import UsageError
from dfad_fast.sources.folder.reading.fitting import fitted

ENDINGS: Final = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"
)  # fmt: skip
_AT_ONCE: Final = 1024


def find_images(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted by name, without hidden ones.

    Raises UsageError if there are none.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name) for name in files if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    if not found:
        raise UsageError(f"{folder} holds no image files ({' '.join(ENDINGS)}): choose a folder that does")
    return sorted(found)


def digest_of(folder: Path, files: Sequence[Path]) -> str:
    """The checksum of the files' names within the folder and their sizes."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size if file.is_file() else -1  # a broken link
        digest.update(os.fsencode(file.relative_to(folder)) + b"\0%d\0" % size)
    return digest.hexdigest()


def read_files(
    files: Sequence[Path], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], list[UsageError]]:
    """The readable images, uint8 [N, C, H, W], and the errors of the others."""

    def read(file: Path) -> NDArray[np.uint8] | UsageError:
        try:
            with opened_image(file) as image:
                return fitted(image, shape)
        except UsageError as error:
            return error

    pixels = np.empty((len(files), *shape), np.uint8)
    count, errors = 0, []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for first in range(0, len(files), _AT_ONCE):
            for outcome in pool.map(read, files[first : first + _AT_ONCE]):
                if isinstance(outcome, UsageError):
                    errors.append(outcome)
                else:
                    pixels[count] = outcome
                    count += 1
    return pixels[:count], errors
