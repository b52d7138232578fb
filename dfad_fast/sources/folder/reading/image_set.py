"""Images from a folder or an .npz, in memory."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfad_fast.errors import DFADFastWarning, UsageError
from dfad_fast.memory import GIB, free_memory
from dfad_fast.sources.folder.reading.archive import open_archive, read_archive
from dfad_fast.sources.folder.reading.files import digest_of, find_images, read_files
from dfad_fast.sources.folder.reading.fitting import MODES
from dfad_fast.wording import counted

FEWEST: Final = 10
_FEWER: Final = "set a limit, such as limit=20000"
_NAMED: Final = 3


@dataclass(frozen=True)
class ImageSet:
    """uint8 ``pixels`` [N, C, H, W] on the CPU, and a ``digest`` that identifies the files."""

    pixels: Tensor
    digest: str


def read_images(path: str, shape: tuple[int, int, int], limit: int, rng: np.random.Generator) -> ImageSet:
    """The images of a folder and its subfolders, or of an .npz, fitted to ``shape``.

    An .npz holds ``images``: uint8, or floats from 0 to 1, [N, H, W], [N, H, W, C] or [N, C, H, W]. Its other content,
    such as labels or logits, is not read. If there are more than ``limit`` images, and ``limit`` is not 0, that many
    are drawn. They take N * C * H * W bytes of memory. Unreadable files are skipped with a warning.

    Raises UsageError if ``path`` has fewer than 10 images, if none can be read, for an .npz of another form or with
    numbers outside 0 to 1 or NaN, and if the images do not fit in the free memory.
    """
    if shape[0] not in MODES:
        raise UsageError(
            f"images in files are gray or RGB, but the teacher's have {shape[0]} channels: choose another source"
        )
    place = Path(path)
    if place.is_dir():
        files = find_images(place)
        digest = digest_of(place, files)
        rows = _drawn(len(files), limit, rng)
        refuse_too_many(place, len(rows), shape, len(rows) * math.prod(shape), _FEWER)
        pixels, errors = read_files([files[row] for row in rows], shape)
        if errors:
            _say_unread(place, errors, len(rows))
    elif place.is_file():
        archive = open_archive(place)
        digest = archive.digest
        rows = _drawn(len(archive), limit, rng)
        refuse_too_many(place, len(rows), shape, len(rows) * math.prod(shape) + archive.bytes, _FEWER)
        pixels = read_archive(archive, rows, shape)
    else:
        raise UsageError(f"no file or folder {path!r}: pass a folder of image files, or an .npz")
    if len(pixels) < FEWEST:
        raise UsageError(f"{place} has {counted(len(pixels), 'image')} to read: at least {FEWEST} are needed")
    return ImageSet(torch.from_numpy(pixels), digest)


def _drawn(count: int, limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.permutation(count)[:limit]) if 0 < limit < count else np.arange(count)


def refuse_too_many(place: Path, count: int, shape: tuple[int, int, int], needed: int, advice: str) -> None:
    """Raises UsageError if ``needed`` bytes for ``count`` images of ``shape`` are more than the free memory."""
    free = free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise UsageError(
            f"{place}: {count:,} images {list(shape)} take {needed / GIB:,.1f} GiB of memory, but "
            f"{free / GIB:,.1f} GiB are free: {advice}"
        )


def _say_unread(place: Path, errors: list[UsageError], of: int) -> None:
    named = "; ".join(str(error) for error in errors[:_NAMED])
    more = f"; and {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
    text = f"{place}: {len(errors):,} of {counted(of, 'image')} cannot be read: {named}{more}"
    if len(errors) == of:
        raise UsageError(text)
    warnings.warn(f"skipped: {text}", DFADFastWarning, stacklevel=3)
