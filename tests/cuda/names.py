"""Names of the CUDA kernels as their sources have them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable


def demangled(names: Iterable[str]) -> list[str]:
    """Without nvcc's name for what is one file's own."""
    given = "\n".join(names)
    text = subprocess.run(["c++filt"], input=given, capture_output=True, text=True, check=True).stdout
    return [re.sub(r"_INTERNAL_\w+?::|\(anonymous namespace\)::", "", line) for line in text.splitlines()]
