"""Writes files atomically: they are complete or missing, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dfad_fast.errors import DFADFastError, RunError


def make_folder(path: Path) -> None:
    """Creates the folder. Raises RunError if it cannot be created or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise RunError(
            f"cannot write to folder {path}: {error.strerror}: give one that can be written to"
        ) from error


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets ``write`` write a file beside ``path`` and renames it.

    So ``path`` is complete or unchanged, even after a power failure.

    Raises RunError if that is impossible, for example on a full disk.
    """
    temporary: Path | None = None
    try:
        # With the same suffix, since matplotlib and safetensors check it.
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except DFADFastError:
        raise
    except Exception as error:
        if not _is_write_failure(error):
            raise
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path, reason: object) -> RunError:
    """The error for a file that cannot be written, with the free space."""
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
    return RunError(
        f"cannot write {path}: {reason} ({free / 2**20:.0f} MiB are free there): make room, or give another folder"
    )


def write_tensors(path: Path, state: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a state dictionary as safetensors. Raises RunError like :func:`write_whole`."""
    from safetensors.torch import save_file

    write_whole(path, lambda p: save_file(plain_tensors(state), p, dict(metadata or {}) or None))


def plain_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dictionary as safetensors needs it: on the CPU, contiguous, without memory shared between tied weights.

    Leaves out a module's extra state.
    """
    return {
        key: value.detach().cpu().contiguous().clone()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def _flush(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk if the system supports it."""
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM):
            raise
    finally:
        if handle is not None:
            os.close(handle)


def _is_write_failure(error: Exception) -> bool:
    """Whether writing failed. safetensors reports a full disk with its own exception."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"
