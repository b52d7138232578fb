"""File and folder names from the longer names in tables."""

from __future__ import annotations

import re


def as_file_name(name: str) -> str:
    """``name`` with dashes instead of characters that are unsafe in a file system or a shell."""
    return re.sub(r"[^A-Za-z0-9.=_+-]+", "-", name)
