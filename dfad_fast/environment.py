"""The device and versions that a run used, for its records."""

from __future__ import annotations

import platform

import numpy as np
import torch

from dfad_fast.version import __version__


def device_name(device: torch.device) -> str:
    """Such as "NVIDIA H100", or "cpu (AVX512)" after the widest vectors that torch uses there."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        f"{device.type} ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else device.type
    )


def versions() -> dict[str, str]:
    """The versions of what a run's result depends on."""
    return {
        "dfad_fast": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
