"""Recognizes files that people pass as weights by mistake."""

from __future__ import annotations

import zipfile
from pathlib import Path

_BEGINNINGS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the weights: run git lfs pull",
    b"<!doctype html": "is a web page, not the weights: download the file itself",
    b"<html": "is a web page, not the weights: download the file itself",
    b"\x1f\x8b": "is compressed by gzip: decompress it first",
    b"\x89hdf": "is an HDF5 file, such as Keras saves, and not of PyTorch: convert its weights to a .safetensors file",
}


def described(path: Path) -> str | None:
    """What the unreadable file ``path`` is, and what to do about it; None if it is not a kind that is known."""
    with path.open("rb") as file:
        start = file.read(64).lower()
    if not start:
        return "is empty: copy or download it again"
    for beginning, told in _BEGINNINGS.items():
        if start.startswith(beginning):
            return told
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if names and all(name.endswith(".npy") for name in names):
        return "holds NumPy arrays: save them as tensors, with torch.save or as a .safetensors file"
    if any(name.endswith("data.pkl") for name in names):
        return None
    return f"is an archive of other files ({', '.join(names[:3])}): unpack it first"
