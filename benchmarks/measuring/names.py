"""Names of files and folders for what tables call by longer ones."""

from __future__ import annotations

import re


def as_file_name(name: str) -> str:
    """``name`` with a dash in place of what a file system or a shell may take ill."""
    return re.sub(r"[^A-Za-z0-9.=_+-]+", "-", name)
