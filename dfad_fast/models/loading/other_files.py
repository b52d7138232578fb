"""Recognizes files that people pass as weights by mistake."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

_BEGINNINGS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the weights: run git lfs pull",
    b"<!doctype html": "is a web page, not the weights: download the file itself",
    b"<html": "is a web page, not the weights: download the file itself",
    b"\x1f\x8b": "is compressed by gzip: decompress it first",
    b"<?xml": "is a web page, not the weights: download the file itself",
    b"\x89hdf": "is an HDF5 file (as saved by Keras), not a PyTorch file: convert its weights to a .safetensors file",
}


def names_in(archive: Path) -> list[str]:
    """The names of the files in a zip archive; none for anything else, and for a damaged one."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return []


def _first_line(start: bytes) -> str | None:
    """The first line of a text file that begins with ``start``, None for another file.

    The last character of ``start`` may be cut off.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines and all(line.replace("\t", " ").isprintable() for line in lines) else None


def described(path: Path) -> str | None:
    """What the unreadable file ``path`` is, and what to do about it; None if it is not a kind that is known."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "is empty: copy or download it again"
    for beginning, told in _BEGINNINGS.items():
        if start.lstrip().lower().startswith(beginning):
            return told
    if start.lstrip().startswith(b"{"):
        return "is a JSON file, not the weights: name the file of weights, or, for an index, save all in one file"
    if first := _first_line(start):
        return f"is a text file that begins with {first[:30]!r}, not the weights"
    names = names_in(path)
    if not names:
        cut = start.startswith(b"PK\x03\x04")
        return "is cut short or damaged: copy or download it again" if cut else None
    if all(name.endswith(".npy") for name in names):
        return "holds NumPy arrays: save them as tensors, with torch.save or as a .safetensors file"
    if any(name.endswith("data.pkl") for name in names):
        return None
    return f"is an archive of other files ({', '.join(names[:3])}): unpack it first"
