"""What a run ran on, for its records."""

from __future__ import annotations

import platform

import numpy as np
import torch

from dfad_fast import __version__


def device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type
    )


def versions() -> dict[str, str]:
    return {
        "dfad_fast": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
