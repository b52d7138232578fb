"""CIFAR's python batches, from their folder or its archive."""

from __future__ import annotations

import reprlib
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.data.checks import check_labels, read_bytes
from dfad_fast.data.cifar_pickle import read_pickle
from dfad_fast.errors import UsageError

SIZE = 32
"""Height and width of every CIFAR image."""

Split = tuple[Tensor, Tensor]
"""Images uint8 [N, 3, 32, 32] and labels int64 [N]."""


@dataclass(frozen=True)
class Layout:
    """One dataset's file names, and the keys in the files."""

    folder: str
    archive: str
    train_files: tuple[str, ...]
    test_file: str
    names_file: str
    label_key: str
    names_key: str
    classes: int

    @property
    def files(self) -> tuple[str, ...]:
        """All files with images."""
        return (*self.train_files, self.test_file, self.names_file)


@dataclass(frozen=True)
class File:
    """A file's content, and its name in errors."""

    content: bytes
    source: str


def read_folder(folder: Path, layout: Layout) -> dict[str, File]:
    """All files of `layout`, by name; UsageError if one cannot be read."""
    return {file: File(read_bytes(folder / file), str(folder / file)) for file in layout.files}


def read_archive(archive: Path, layout: Layout) -> dict[str, File]:
    """All files of `layout`, by name, read into memory in one pass over the `.tar.gz`.

    Skips links and everything else in the archive.

    Raises:
        UsageError: the archive is damaged or lacks a file.
    """
    wanted = {f"{layout.folder}/{file}": file for file in layout.files}
    found: dict[str, File] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                file = wanted.get(member.name.removeprefix("./"))
                # extractfile would follow a link.
                content = tar.extractfile(member) if file and member.isreg() else None
                if file and content:
                    found[file] = File(content.read(), f"{archive}: {member.name}")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{archive}: cannot be read ({error}); fetch the file again") from error
    missing = [path for path, file in wanted.items() if file not in found]
    if missing:
        raise UsageError(f"{archive}: it lacks {', '.join(missing)}; expected {layout.archive} as published")
    return found


def parse(files: dict[str, File], layout: Layout) -> tuple[Split, Split, tuple[str, ...]]:
    """The train split, the test split and the class names; UsageError, naming the file, if one is damaged."""
    names_file = files[layout.names_file]
    names = _value(names_file, read_pickle(names_file.content, names_file.source), layout.names_key)
    if (
        not isinstance(names, list)
        or len(names) != layout.classes
        or not all(isinstance(n, str) for n in names)
    ):
        expected = f"{layout.names_key!r} to be a list of {layout.classes} names"
        raise UsageError(f"{names_file.source}: expected {expected}, got {reprlib.repr(names)}")
    train = [_parse_batch(files[file], layout) for file in layout.train_files]
    images, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
    return (images, labels), _parse_batch(files[layout.test_file], layout), tuple(names)


def _parse_batch(file: File, layout: Layout) -> Split:
    batch = read_pickle(file.content, file.source)
    pixels, labels = _value(file, batch, "data"), _value(file, batch, layout.label_key)
    row = 3 * SIZE * SIZE
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != row:
        got = list(pixels.shape) if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise UsageError(f"{file.source}: expected 'data' to be a byte array of [N, {row}], got {got}")
    if not isinstance(labels, list):
        got = type(labels).__name__
        raise UsageError(f"{file.source}: expected {layout.label_key!r} to be a list, got {got}")
    # Compared as Python numbers: torch.tensor raises for one that int64 cannot hold.
    wrong = [x for x in labels if not (isinstance(x, int) and 0 <= x < layout.classes)]
    if wrong:
        found = reprlib.repr(wrong[0])
        raise UsageError(f"{file.source}: labels must be 0 to {layout.classes - 1}, found {found}")
    images = torch.tensor(pixels).view(-1, 3, SIZE, SIZE)
    targets = torch.tensor(labels, dtype=torch.int64)
    check_labels(targets, len(images), layout.classes, file.source)
    return images, targets


def _value(file: File, content: dict[str, Any], key: str) -> Any:
    if key not in content:
        raise UsageError(f"{file.source}: it has no {key!r}, only {reprlib.repr(sorted(content))}")
    return content[key]
