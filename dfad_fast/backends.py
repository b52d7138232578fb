"""Which code computes an op: the C++ extension where it serves the tensor's device, plain PyTorch elsewhere.

``DFAD_FAST_BACKEND`` or :class:`use_backend` force one; ``DFAD_FAST_ISA`` forces an instruction-set tier of
the C++ kernels (``base``, ``avx2``, ``avx512``). A missing or unloadable extension is reported once and never
breaks an import: the reference then serves every op.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import torch

from dfad_fast.errors import UsageError, unknown_name

BACKENDS = ("auto", "cpp", "reference")
NATIVE_DEVICES = ("cpu", "meta")
BUILD_INFO_FILE = Path(__file__).with_name("_build_info.json")
REBUILD = "pip install --no-build-isolation -e ."

_logger = logging.getLogger(__name__)
_F = TypeVar("_F", bound=Callable[..., Any])


def build_info() -> dict[str, Any]:
    """What setup.py wrote down about its last build; empty where it never ran."""
    try:
        info = json.loads(BUILD_INFO_FILE.read_text())
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _other_torch(built_for: object) -> bool:
    """Whether the extension was built for another torch release, whose ABI may differ though it links."""
    if not isinstance(built_for, str) or built_for == torch.__version__:
        return False
    from packaging.version import Version  # only reached where the strings differ, so a usual import skips it

    return Version(built_for).public != Version(torch.__version__).public


def _load() -> tuple[ModuleType | None, str]:
    """The extension, or None and why it is missing."""
    info = build_info()
    if info.get("built") is False:
        # Not even tried: a binary left from an earlier build would not fit the sources beside it.
        return None, f"{info.get('reason')}: build it with {REBUILD}"
    built_for = info.get("torch")
    if _other_torch(built_for):
        return (
            None,
            f"it was built for torch {built_for}, you have {torch.__version__}: reinstall with {REBUILD}",
        )
    try:
        from dfad_fast import _C
    except ImportError as error:
        if info.get("built"):
            wanted = f"built for torch {built_for}, you have {torch.__version__}"
            return None, f"it does not load ({wanted}): {error}: reinstall with {REBUILD}"
        return None, f"it was never built: build it with {REBUILD}"
    return _C, ""


def _report_missing(reason: str) -> None:
    message = f"dfad_fast: the C++ extension is missing, the slower PyTorch reference serves ({reason})"
    if build_info().get("skipped"):
        _logger.info(message)
    else:
        warnings.warn(message, RuntimeWarning, stacklevel=3)


class _State:
    """The process-wide choice; an object, so that torch.compile guards on its attribute."""

    forced = "auto"


_state = _State()
extension, missing_reason = _load()
if extension is None:
    _report_missing(missing_reason)


def _force(name: str) -> None:
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    if name == "cpp" and extension is None:
        raise UsageError(f"backend 'cpp' was asked for, but the C++ extension is missing: {missing_reason}")
    _state.forced = name


def apply_environment() -> None:
    """Apply DFAD_FAST_BACKEND and DFAD_FAST_ISA; a wish that cannot be met raises UsageError."""
    _force(os.environ.get("DFAD_FAST_BACKEND") or "auto")
    tier = os.environ.get("DFAD_FAST_ISA")
    if tier and extension is not None:
        try:
            extension.set_tier(tier)
        except ValueError as error:
            raise UsageError(f"DFAD_FAST_ISA={tier}: {error}") from None


class use_backend:
    """Force a backend for the whole process: ``use_backend("reference")``, or ``with
    use_backend("reference"):``.

    Args:
        name: ``"cpp"`` (the compiled kernels), ``"reference"`` (plain PyTorch), or ``"auto"``, the default:
            compiled kernels where they serve the tensor's device and the reference elsewhere.

    Raises:
        UsageError: the name is unknown, or the backend is not there; the text says what is missing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._previous = _state.forced
        _force(name)

    def __enter__(self) -> None:
        # Again, for an object that is entered a second time.
        _force(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _state.forced = self._previous


def native(*tensors: torch.Tensor) -> bool:
    """Whether the compiled op serves these tensors. Where devices are mixed the reference says so."""
    if extension is None or _state.forced == "reference":
        return False
    for tensor in tensors:
        device = tensor.device.type
        if device not in NATIVE_DEVICES:
            if _state.forced == "cpp":
                raise UsageError(f"backend 'cpp' was asked for, but it has no kernels for {device} tensors")
            return False
    return True


def op(name: str) -> Any:
    """The dispatcher's op of this name, or None where the extension is missing."""
    return None if extension is None else getattr(torch.ops.dfad_fast, name).default


def register_fake(name: str) -> Callable[[_F], _F]:
    """Register a function as the op's fake kernel, where the extension has defined the op."""

    def decorate(fake: _F) -> _F:
        if extension is not None:
            torch.library.register_fake(f"dfad_fast::{name}", fake)
        return fake

    return decorate


def choice(device: str) -> tuple[str, str]:
    """The backend that serves an op on a device, and why."""
    if _state.forced == "reference":
        return "reference", "forced"
    if extension is None:
        return "reference", missing_reason
    if device in NATIVE_DEVICES:
        return "cpp", "forced" if _state.forced == "cpp" else f"compiled kernels, tier {extension.tier()}"
    if _state.forced == "cpp":
        return "none", f"'cpp' is forced and has no kernels for {device}"
    return "reference", f"no compiled kernels for {device}"
