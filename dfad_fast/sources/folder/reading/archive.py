"""Images in an .npz file."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.sources.folder.reading.fitting import MODES, fitted

KEY: Final = "images"
_MEMBER: Final = f"{KEY}.npy"
_FORMS: Final = "uint8, or floats from 0 to 1, [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3"


@dataclass(frozen=True)
class Archive:
    """The file's description of its images before they are unpacked."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    digest: str

    @property
    def bytes(self) -> int:
        """The size of the array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]


def open_archive(path: Path) -> Archive:
    """Raises UsageError for anything other than an .npz file with images."""
    with _refusing(path), zipfile.ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist()]
        if KEY not in names:
            came = ", ".join(names) or "none"
            raise UsageError(f"{path}: expected an array {KEY!r} ({_FORMS}), got arrays: {came}")
        with file.open(_MEMBER) as member:
            version = np.lib.format.read_magic(member)
            reads = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = reads(member)
        digest = f"{shape} {dtype} {file.getinfo(_MEMBER).CRC:08x}"
    if not (dtype == np.uint8 or dtype.kind == "f") or _channels_at(shape) is None:
        raise UsageError(f"{path}: {KEY} must be {_FORMS}; got {dtype} {list(shape)}")
    if not math.prod(shape):
        raise UsageError(f"{path}: {KEY} is empty, {list(shape)}: it needs at least one image")
    return Archive(path, shape, dtype, digest)


def read_archive(archive: Archive, rows: NDArray[np.int64], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The images at ``rows``, uint8 [N, C, H, W]. Raises UsageError for numbers that are not pixels."""
    from PIL import Image

    with _refusing(archive.path), np.load(archive.path, allow_pickle=False) as file:
        images = file[KEY]
    at = _channels_at(archive.shape)
    images = images[:, :, :, None] if at == 0 else np.moveaxis(images, at or 0, 3)
    if len(rows) < len(images):
        images = images[rows]
    if images.dtype != np.uint8:
        images = _as_bytes(images, archive.path, rows)
    if images.shape[1:] == (*shape[1:], shape[0]):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    squeezed = images[:, :, :, 0] if images.shape[3] == 1 else images
    return np.stack([fitted(Image.fromarray(np.ascontiguousarray(image)), shape) for image in squeezed])


def _as_bytes(images: NDArray[Any], path: Path, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    pixels = np.empty(images.shape, np.uint8)
    for place, image in enumerate(images):
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # NaN included
            said = "NaN" if math.isnan(low) else f"{low:g} to {high:g}"
            raise UsageError(
                f"{path}: floats in {KEY} must be from 0 to 1, image {rows[place]} has {said}: undo their "
                "normalization and save them again"
            )
        np.rint(255 * image.astype(np.float32), out=pixels[place], casting="unsafe")
    return pixels


def _channels_at(shape: tuple[int, ...]) -> int | None:
    """The channel axis; 0 if there is none, None if the shape is not that of images."""
    if len(shape) == 3:
        return 0
    if len(shape) != 4:
        return None
    return next((axis for axis in (3, 1) if shape[axis] in MODES), None)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    # Besides OSError and BadZipFile, damaged files raise ValueError, EOFError, struct.error and zlib.error.
    except Exception as error:
        raise UsageError(f"{path}: cannot be read as .npz ({in_one_line(error)}); save it again") from error
