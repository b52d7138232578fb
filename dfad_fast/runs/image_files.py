"""Images with a teacher's answers, in common file formats."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfad_fast.runs.whole_files import cannot_write, make_folder, write_whole

LABELS = "labels.csv"

Part = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Images [n, H, W, C] and logits [n, classes]."""


def write_folder(folder: Path, parts: Iterable[Part]) -> int:
    """Writes PNGs 000000.png and so on, with 1 or 3 channels, and finally labels.csv.

    The table has the file, the teacher's class and its logits. Returns the number of images. Raises RunError if a file
    cannot be written.
    """
    from PIL import Image

    make_folder(folder)
    rows: list[list[Any]] = []
    for images, logits in parts:
        for image, answer in zip(images, logits, strict=True):
            path = folder / f"{len(rows):06d}.png"
            try:
                Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(path)
            except OSError as error:
                raise cannot_write(path, error.strerror or error) from error
            rows.append([path.name, int(answer.argmax()), *(f"{value:.9g}" for value in answer)])

    def write(path: Path) -> None:
        with path.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            classes = len(rows[0]) - 2 if rows else 0
            table.writerow(["file", "class", *(f"logit_{number}" for number in range(classes))])
            table.writerows(rows)

    write_whole(folder / LABELS, write)
    return len(rows)


def write_archive(file: Path, parts: Iterable[Part], told: Mapping[str, Any]) -> int:
    """Writes an .npz with ``images`` uint8 [N, H, W, C], ``logits`` float32 [N, classes] and the arrays ``told``.

    Returns N. Raises RunError if it cannot be written.
    """
    make_folder(file.parent)
    both = list(parts)
    images = np.concatenate([images for images, _ in both])
    logits = np.concatenate([logits for _, logits in both])
    arrays: dict[str, Any] = {"images": images, "logits": logits, **told}
    write_whole(file, lambda path: np.savez_compressed(path, **arrays))
    return len(images)
