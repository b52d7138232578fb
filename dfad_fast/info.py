"""``python -m dfad_fast.info [--json]``: versions, the build, and which backend serves each op, and why."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from importlib import metadata
from typing import Any

import torch

from dfad_fast import backends
from dfad_fast.errors import UsageError
from dfad_fast.terminal import outliving_readers
from dfad_fast.version import __version__

OPS = (
    "batch_norm_act",
    "batch_norm_statistics_loss",
    "boundary_hinge_loss",
    "boundary_hinge_loss_with_agreement",
    "channel_statistics",
    "generator_block",
    "interpolated_l1",
    "kl_discrepancy",
    "l1_discrepancy",
    "mixup",
    "narrow_conv2d",
    "narrow_conv2d_with_statistics",
    "pack_signs",
    "virtual_batch",
    "winograd_conv2d",
    "winograd_weight",
)
# On other devices torch's own convolutions serve.
CPU_OPS = (
    "generator_block",
    "narrow_conv2d",
    "narrow_conv2d_with_statistics",
    "winograd_conv2d",
    "winograd_weight",
)
VARIABLES = ("DFAD_FAST_BACKEND", "DFAD_FAST_ISA", "TRITON_INTERPRET", "OMP_NUM_THREADS")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _extension() -> dict[str, Any]:
    if backends.extension is None:
        return {"loaded": False, "reason": backends.missing_reason}
    return {
        "loaded": True,
        "file": backends.extension.__file__,
        "built_with": backends.extension.build_info(),
        "tier": backends.extension.tier(),
        "supported_tiers": backends.extension.supported_tiers(),
    }


def _serving(op: str, device: str) -> dict[str, str]:
    backend, reason = backends.choice(device)
    if op in CPU_OPS and (device != "cpu" or backend == "triton"):
        backend, reason = "reference", "torch's own convolutions"
    return {"backend": backend, "reason": reason}


def collect() -> dict[str, Any]:
    """Everything in the report, as plain data."""
    devices = ("cpu", "cuda")
    try:
        # Registers the Triton kernels and applies the environment variables.
        importlib.import_module("dfad_fast.ops")
        environment_error = None
    except UsageError as error:
        environment_error = str(error)
    return {
        "dfad_fast": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "triton": _version("triton"),
        "threads": torch.get_num_threads(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "environment_error": environment_error,
        "extension": _extension(),
        "build": backends.build_info(),
        "ops": {op: {device: _serving(op, device) for device in devices} for op in OPS},
    }


def _lines(value: Any, indent: str = "") -> list[str]:
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        else:
            text = ", ".join(item) if isinstance(item, list) else item
            lines.append(f"{indent}{key}: {'-' if text is None or text == {} else text}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Prints the report and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dfad_fast.info", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON, for bug reports and scripts")
    report = collect()
    as_json = parser.parse_args(arguments).json
    with outliving_readers():
        print(json.dumps(report, indent=2) if as_json else "\n".join(_lines(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
