"""One writer at a time: a file in the run's folder names the process."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dfad_fast.errors import DFADFastWarning, UsageError
from dfad_fast.process import start_of
from dfad_fast.runs.layout import LOCK
from dfad_fast.runs.whole_files import cannot_write
from dfad_fast.terminal import quoted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TRIES = 5


@dataclass(frozen=True)
class Owner:
    """A process. ``started`` distinguishes it from a later one with the same id."""

    host: str
    process: int
    started: str
    space: str = ""
    """The namespace of its id: containers on one host may share a folder but number processes separately."""

    @staticmethod
    def this() -> Owner:
        """This process."""
        return Owner(platform.node(), os.getpid(), start_of(os.getpid()) or "", _numbers_here())

    @property
    def is_seen_from_here(self) -> bool:
        """Whether this process could see it: it is on the same host and in the same space of process numbers."""
        return self.host == platform.node() and self.space in ("", _numbers_here())

    @property
    def has_ended(self) -> bool:
        """Also False if that cannot be seen from here."""
        if not self.is_seen_from_here:
            return False
        found = start_of(self.process)
        return found is None or (found != "" and found != self.started)


_UNKNOWN = Owner("", 0, "")


def _numbers_here() -> str:
    """The name of the process id namespace; "" if the system has only one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


_holders: dict[
    tuple[int, Path], RunLock
] = {}  # keyed by process too: a fork holds none of its parent's locks
_changing = threading.Lock()


class RunLock:
    """The lock of the run in ``folder``.

    A process that is killed leaves the file, and the next one takes it over with a warning.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder.resolve() / LOCK

    def take(self) -> None:
        """Takes the lock. Does nothing if this object already holds it.

        Raises UsageError if another process or another trainer in this process holds it, and RunError if the file
        cannot be written.
        """
        key = (os.getpid(), self._file)
        with _changing:
            if _holders.get(key, self) is not self:
                raise UsageError(
                    f"another trainer of this process is writing to {self._folder}: wait until its fit has ended, or "
                    "give another folder"
                )
            if not self.is_ours:
                _take(self._folder, self._file)
            _holders[key] = self

    @property
    def is_ours(self) -> bool:
        """Whether this object still holds the lock."""
        return _holders.get((os.getpid(), self._file)) is self and _read(self._file) == Owner.this()

    def give_back(self) -> None:
        """Releases the lock, if this object holds it."""
        with _changing:
            if _holders.get((os.getpid(), self._file)) is not self:
                return
            del _holders[os.getpid(), self._file]
            if _read(self._file) == Owner.this():
                with suppress(OSError):
                    self._file.unlink()


def refuse_held(folder: Path) -> None:
    """Raises UsageError if another process, which may be alive, writes to ``folder``."""
    owner = _read(folder / LOCK)
    if owner is not None and owner != Owner.this() and not owner.has_ended:
        raise _held(folder, owner)


def _take(folder: Path, file: Path) -> None:
    me = Owner.this()
    with _alone(file.parent):
        owner = _read(file)
        if owner == me:
            return
        if owner is not None:
            if not owner.has_ended:
                raise _held(folder, owner)
            file.unlink(missing_ok=True)
            warnings.warn(
                f"process {owner.process}, which was writing to {folder}, ended without releasing its lock: the lock "
                "is taken over",
                DFADFastWarning,
                stacklevel=4,
            )
        if not _create(file, me):
            raise UsageError(
                f"another process has just begun to write to {folder}: give another folder with --out"
            )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Admits one process of this machine at a time, so that only one takes over a stale lock.

    Without such locks in the system or file system they race, and the loser notices at its next checkpoint.
    """
    handle = None
    try:
        if fcntl is not None:
            with suppress(OSError):
                handle = os.open(folder, os.O_RDONLY)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _create(file: Path, owner: Owner) -> bool:
    """Creates the lock file. Returns False if there already is one."""
    try:
        with file.open("x") as opened:
            try:
                opened.write(
                    json.dumps({**asdict(owner), "since": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n"
                )
                opened.flush()
                os.fsync(opened.fileno())
            except OSError:
                file.unlink()
                raise
    except FileExistsError:
        return False
    except OSError as error:
        raise cannot_write(file, error.strerror) from error
    return True


def _read(file: Path) -> Owner | None:
    """The lock's owner; None if there is no lock. An unreadable lock counts too: its owner may still be writing it."""
    for _ in range(_TRIES):
        try:
            told = json.loads(file.read_bytes())
            owner = Owner(
                str(told["host"]), int(told["process"]), str(told["started"]), str(told.get("space", ""))
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            time.sleep(0.02)
        else:
            return owner if 0 < owner.process < 2**31 else _UNKNOWN
    return _UNKNOWN


def _held(folder: Path, owner: Owner) -> UsageError:
    file = quoted(folder / LOCK)
    if owner == _UNKNOWN:
        return UsageError(f"{folder} has a lock that cannot be read: if no process writes there, rm {file}")
    if not owner.is_seen_from_here:
        return UsageError(
            f"process {owner.process} on {owner.host} writes to {folder}, but whether it still runs cannot be seen "
            f"from here: give another folder with --out, or, if it has ended, rm {file}"
        )
    return UsageError(
        f"process {owner.process} is writing to {folder}: wait until it ends, stop it with kill {owner.process}, or "
        "give another folder with --out"
    )
