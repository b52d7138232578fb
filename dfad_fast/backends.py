"""Which code computes an op.

``cpp``: compiled kernels, C++ for the CPU and, if they were built, CUDA C++ for NVIDIA GPUs. ``triton``: Triton
kernels, on a GPU for which no CUDA kernels were built. ``reference``: plain PyTorch, for everything else.

``DFAD_FAST_BACKEND`` or :class:`use_backend` force one; ``DFAD_FAST_ISA`` forces an instruction-set tier of
the C++ kernels (``base``, ``avx2``, ``avx512``). A missing or unloadable extension is reported once and never
breaks an import: every op then runs the reference.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import torch

from dfad_fast import private_torch
from dfad_fast.errors import UsageError, unknown_name

BACKENDS = ("auto", "cpp", "triton", "reference")
BUILD_INFO_FILE = Path(__file__).with_name("_build_info.json")
# An installed wheel has no sources beside it.
_HAS_SOURCES = BUILD_INFO_FILE.parents[1].joinpath("csrc").is_dir()
REBUILD = (
    "pip install --no-build-isolation -e ."
    if _HAS_SOURCES
    else "pip install --no-build-isolation --no-deps --force-reinstall SOURCES (the .tar.gz of dfad_fast, or a folder)"
)

_logger = logging.getLogger(__name__)
_F = TypeVar("_F", bound=Callable[..., Any])


def build_info() -> dict[str, Any]:
    """What setup.py recorded about its last build; empty if it never ran."""
    try:
        info = json.loads(BUILD_INFO_FILE.read_text())
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _other_torch(built_for: object) -> bool:
    """Whether the extension was built for another torch release, whose ABI may differ even if it links."""
    if not isinstance(built_for, str) or built_for == torch.__version__:
        return False
    from packaging.version import Version  # reached only if the strings differ, so most imports skip it

    return Version(built_for).public != Version(torch.__version__).public


def _not_built(info: dict[str, Any]) -> str:
    """Why a build left the extension out, and what to do about it."""
    if sys.platform in ("darwin", "win32"):
        return "there is none for macOS and Windows"
    if info.get("skipped") and not _HAS_SOURCES:
        # Whoever built the package chose so; who installs it may not know that choice.
        here = f"torch {torch.__version__.partition('+')[0]} and Python {sys.version_info[0]}.{sys.version_info[1]}"
        return f"it is not in this package: install a wheel for {here}, or build it with {REBUILD}"
    return f"{info.get('reason')}: build it with {REBUILD}"


def _load() -> tuple[ModuleType | None, str]:
    """The extension and "", or None and the reason why it is missing."""
    info = build_info()
    if info.get("built") is False:
        # Do not even try: a binary left from an earlier build would not match the sources beside it.
        return None, _not_built(info)
    built_for = info.get("torch")
    if _other_torch(built_for):
        return (
            None,
            f"it was built for torch {built_for}, you have {torch.__version__}: reinstall with {REBUILD}",
        )
    try:
        extension = importlib.import_module("dfad_fast._C")
    except ImportError as error:
        if info.get("built"):
            wanted = f"built for torch {built_for}, you have {torch.__version__}"
            return None, f"it does not load ({wanted}): {error}: reinstall with {REBUILD}"
        return None, f"it was never built: build it with {REBUILD}"
    return extension, ""


def _report_missing(reason: str) -> None:
    message = f"dfad_fast: the C++ extension is missing, using the slower PyTorch reference ({reason})"
    if build_info().get("skipped"):
        _logger.info(message)
    else:
        warnings.warn(message, RuntimeWarning, stacklevel=3)


class _State:
    """The process-wide choice. It is an object so that torch.compile guards on its attributes."""

    forced = "auto"
    # Registers the Triton launchers for a dispatch key; set by dfad_fast.ops.
    register_triton: Callable[[str], torch.library.Library] | None = None
    # Registrations last as long as their Library.
    triton: torch.library.Library | None = None
    triton_over_others: tuple[torch.library.Library, ...] = ()


_state = _State()
extension, missing_reason = _load()
if extension is None:
    _report_missing(missing_reason)


# Computed once: torch.compile cannot trace into the extension's functions.
_has_cuda_kernels = extension is not None and bool(extension.build_info().get("cuda"))


@functools.cache
def _unfit_gpu() -> str:
    """Why the CUDA kernels do not run on this GPU, or an empty string.

    Binary code runs on later minor versions; the newest architecture, built as PTX too, runs on all later GPUs.
    """
    assert extension is not None
    built = [tuple(map(int, a.split("."))) for a in extension.build_info()["cuda_architectures"]]
    here = torch.cuda.get_device_capability()
    if here >= max(built) or any(here[0] == major and here[1] >= minor for major, minor in built):
        return ""
    return (
        f"the CUDA kernels were built for {', '.join(f'{a}.{b}' for a, b in built)}, but the GPU is "
        f"{here[0]}.{here[1]}: reinstall with TORCH_CUDA_ARCH_LIST={here[0]}.{here[1]}, or use_backend('triton')"
    )


def _missing_triton() -> str:
    """Why there are no Triton kernels, or an empty string."""
    if extension is None:
        return f"its ops are defined by the C++ extension, which is missing: {missing_reason}"
    return "" if importlib.util.find_spec("triton") else "triton is not installed: pip install triton"


def _interpreting() -> bool:
    """Whether Triton kernels run on the CPU, in Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def offer_triton(register: Callable[[str], torch.library.Library]) -> None:
    """Lets Triton serve GPUs that no CUDA kernels were built for. Does not import triton."""
    _state.register_triton = register
    if not _has_cuda_kernels and not _missing_triton():
        _state.triton = register("CUDA")


def _put_triton_first(wanted: bool) -> None:
    for library in _state.triton_over_others:
        library._destroy()
    _state.triton_over_others = ()
    if wanted and _state.register_triton is not None:
        keys = [*(["CPU"] if _interpreting() else []), *(["CUDA"] if _has_cuda_kernels else [])]
        _state.triton_over_others = tuple(_state.register_triton(key) for key in keys)


def _force(name: str) -> None:
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    if name == "cpp" and extension is None:
        raise UsageError(f"backend 'cpp' was requested, but the C++ extension is missing: {missing_reason}")
    if name == "triton" and (missing := _missing_triton()):
        raise UsageError(f"backend 'triton' was requested, but {missing}")
    if (name == "triton") != (_state.forced == "triton"):
        _put_triton_first(name == "triton")
    _state.forced = name


def apply_environment() -> None:
    """Applies DFAD_FAST_BACKEND and, if there is an extension, DFAD_FAST_ISA.

    Raises UsageError for a request that cannot be met.
    """
    _force(os.environ.get("DFAD_FAST_BACKEND") or "auto")
    tier = os.environ.get("DFAD_FAST_ISA")
    if tier and extension is not None:
        try:
            extension.set_tier(tier)
        except ValueError as error:
            raise UsageError(f"DFAD_FAST_ISA={tier}: {error}") from None


class use_backend:
    """Forces a backend for the whole process, or in a with block, as in ``use_backend("reference")``.

    Args:
        name: ``"cpp"`` (compiled kernels), ``"triton"`` (Triton kernels, on a GPU, or with ``TRITON_INTERPRET=1`` in
            Triton's interpreter on the CPU), ``"reference"`` (plain PyTorch), or ``"auto"``, the default: compiled
            kernels if they serve the tensor's device, otherwise Triton, otherwise the reference.

    Raises:
        UsageError: the name is unknown, or the backend is not available; the message says what is missing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._before = [_state.forced]
        self._entered = False
        _force(name)

    def __enter__(self) -> None:
        if self._entered:  # entered again, perhaps nested
            self._before.append(_state.forced)
        self._entered = True
        _force(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _force(self._before.pop())


def inside_transform() -> bool:
    """Whether a torch.func transform (vmap, grad, jvp) is active in eager mode."""
    return not torch.compiler.is_compiling() and private_torch.inside_function_transform()


def _only_plain_torch_serves() -> bool:
    """Whether a torch.func transform or forward-mode differentiation is active in eager mode."""
    return inside_transform() or (not torch.compiler.is_compiling() and private_torch.inside_dual_level())


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def is_opaque(kind: type) -> bool:
    """Whether this tensor class has its own dispatch, as DTensor does, so that kernels cannot read its memory."""
    own = getattr(kind, "__torch_dispatch__", torch.Tensor.__torch_dispatch__)
    # The kernels support the classes that torch.compile and torch.export trace with.
    return own is not torch.Tensor.__torch_dispatch__ and not private_torch.is_traced_kind(kind)


def native(*tensors: torch.Tensor) -> bool:
    """Whether a registered kernel serves these tensors. For mixed devices the reference raises the error.

    The reference also serves inside torch.func's transforms (vmap, grad, jvp), which can trace through it, in forward
    mode, and for subclasses of tensors with their own dispatch.
    """
    if extension is None or _state.forced == "reference":
        return False
    if _only_plain_torch_serves():
        return False
    for tensor in tensors:
        if type(tensor) not in _PLAIN and is_opaque(type(tensor)):
            return False
        if tensor.is_cpu and _state.forced != "triton":
            continue  # the usual case; reading the device's name takes ten times as long
        backend, reason = choice(tensor.device.type)
        if backend == "none":
            raise UsageError(reason)
        if backend == "reference":
            return False
    return True


def native_on_cpu(*tensors: torch.Tensor) -> bool:
    """Whether compiled kernels serve these tensors, for an op that has kernels only for the CPU and float32.

    False under autocast, which would compute in half precision.
    """
    if extension is None or _state.forced not in ("auto", "cpp") or _only_plain_torch_serves():
        return False
    if any(type(t) not in _PLAIN and is_opaque(type(t)) for t in tensors):
        return False
    return all(t.is_cpu and t.dtype == torch.float32 for t in tensors) and not torch.is_autocast_enabled(
        "cpu"
    )


def op(name: str) -> Any:
    """The dispatcher's op of this name, or None if the extension is missing."""
    return None if extension is None else getattr(torch.ops.dfad_fast, name).default


def register_fake(name: str) -> Callable[[_F], _F]:
    """Registers a function as the op's fake kernel, if the extension has defined the op."""

    def decorate(fake: _F) -> _F:
        if extension is not None:
            torch.library.register_fake(f"dfad_fast::{name}", fake)
            _refuse_other_storage(name, fake)
        return fake

    return decorate


_OTHER_STORAGE = ("Quantized", "Sparse", "SparseCsr", "NestedTensor")
_refusals = torch.library.Library("dfad_fast", "IMPL")


def _refuse_other_storage(name: str, fake: Callable[..., Any]) -> None:
    """Raises TypeError for tensors whose memory no kernel can read. In the dispatcher, so that others pay nothing."""

    def refuse(*arguments: Any, **named: Any) -> None:
        fake(*arguments, **named)  # it names the argument, if it checks it
        raise TypeError(f"{name}: all tensors must be dense, not sparse, quantized or nested")

    for kind in _OTHER_STORAGE:
        for device in ("CPU", "CUDA"):
            _refusals.impl(name, refuse, f"{kind}{device}")
    _refusals.impl(name, refuse, "MkldnnCPU")


def choice(device: str) -> tuple[str, str]:
    """The backend that serves an op on a device, and why; "none" if the forced one has no kernels for it."""
    forced = _state.forced
    if forced == "reference":
        return "reference", "forced"
    if extension is None:
        return "reference", missing_reason
    if forced == "triton":
        if device == "cuda" or device == "meta" or (device == "cpu" and _state.triton_over_others):
            return "triton", "forced"
        hint = ": TRITON_INTERPRET=1 runs it in Triton's interpreter" if device == "cpu" else ""
        return "none", f"backend 'triton' was requested, but it has no kernels for {device} tensors{hint}"
    if device == "cpu" or device == "meta":
        return "cpp", "forced" if forced == "cpp" else "compiled kernels"
    if device == "cuda" and _has_cuda_kernels:
        # While torch.compile traces, the eager call before or the launch after reports a mismatch.
        if not torch.compiler.is_compiling() and torch.cuda.is_available() and (unfit := _unfit_gpu()):
            return "none", unfit
        return "cpp", "forced" if forced == "cpp" else "compiled CUDA kernels"
    if forced == "cpp":
        return "none", f"backend 'cpp' was requested, but it has no kernels for {device} tensors"
    if device == "cuda" and _state.triton is not None:
        return "triton", "no CUDA kernels were built"
    missing = _missing_triton() if device == "cuda" else ""
    return "reference", f"no compiled kernels for {device}" + (f", and {missing}" if missing else "")
