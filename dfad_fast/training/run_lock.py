"""One writer at a time: a file in the run's folder says which process that is."""

from __future__ import annotations

import json
import os
import platform
import shutil
import threading
import time
import warnings
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dfad_fast.errors import DFADFastWarning, RunError, UsageError
from dfad_fast.terminal import quoted
from dfad_fast.training.process import start_of

LOCK = "run.lock"


@dataclass(frozen=True)
class Owner:
    """A process. ``started`` tells it from a later one with its number."""

    host: str
    process: int
    started: str

    @staticmethod
    def this() -> Owner:
        return Owner(platform.node(), os.getpid(), start_of(os.getpid()) or "")

    @property
    def has_ended(self) -> bool:
        """False too where that cannot be seen from here."""
        if self.host != platform.node():
            return False
        found = start_of(self.process)
        return found is None or (found != "" and found != self.started)


_UNKNOWN = Owner("", 0, "")


@dataclass
class _Hold:
    """A folder's lock in this process, of the last trainer that was made for the folder."""

    file: Path
    process: int
    writing: bool = False


_holds: dict[Path, _Hold] = {}
_changing = threading.RLock()  # a trainer may be forgotten, and give its lock back, at any moment


class RunLock:
    """The lock of the run in ``folder``, which exists.

    A trainer that was made earlier in this process for the same folder, and is not in ``fit``, loses it to this one.
    It is given back when this object is forgotten or the process ends; one that was killed leaves the file, and the
    next process takes it over with a warning.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hold = _Hold(folder.resolve() / LOCK, os.getpid())
        weakref.finalize(self, _give_back, self._hold)

    def take(self) -> None:
        """Does nothing where it is taken already.

        Raises UsageError where another process has it, or another trainer of this one in its ``fit``, and RunError
        where the file cannot be written.
        """
        with _changing:
            other = _own(self._hold.file)
            if self.is_ours:
                return
            if other is not None and other is not self._hold and other.writing:
                raise UsageError(
                    f"another trainer of this process is writing to {self._folder}: wait until its fit has ended, or "
                    "give another folder"
                )
            _holds[self._hold.file] = self._hold
            try:
                _take(self._folder, self._hold.file)
            except BaseException:
                if other is None:
                    del _holds[self._hold.file]
                else:
                    _holds[self._hold.file] = other
                raise

    def begin_writing(self) -> None:
        """Of a run that lasts. Raises UsageError where a trainer made later has the folder, and as ``take`` does."""
        other = _own(self._hold.file)
        if other is not None and other is not self._hold:
            raise UsageError(
                f"a trainer that was made later writes to {self._folder}: use that one, or give another folder"
            )
        self.take()
        self._hold.writing = True

    @property
    def writing(self) -> bool:
        return self._hold.writing

    @property
    def is_ours(self) -> bool:
        return _own(self._hold.file) is self._hold and _read(self._hold.file) == Owner.this()

    def give_back(self) -> None:
        self._hold.writing = False
        _give_back(self._hold)


def refuse_held(folder: Path) -> None:
    """Raises UsageError where another process, which may be alive, writes to ``folder``."""
    owner = _read(folder / LOCK)
    if owner is not None and owner != Owner.this() and not owner.has_ended:
        raise _held(folder, owner)


def _own(file: Path) -> _Hold | None:
    """Who has the lock in this process; a forked one has none of its parent's."""
    hold = _holds.get(file)
    return hold if hold is not None and hold.process == os.getpid() else None


def _take(folder: Path, file: Path) -> None:
    me = Owner.this()
    for _ in range(3):  # of many that find a stale lock, one gets it and the others are refused
        if _create(file, me):
            return
        owner = _read(file)
        if owner is None:
            continue  # given back just now
        if owner == me:
            return
        if not owner.has_ended:
            raise _held(folder, owner)
        if _remove_stale(file, owner):
            warnings.warn(
                f"process {owner.process}, which was writing to {folder}, has ended without a word: its lock is taken "
                "over",
                DFADFastWarning,
                stacklevel=4,
            )
    raise UsageError(f"another process has just taken {folder}: give another folder with --out")


def _create(file: Path, owner: Owner) -> bool:
    """False where there is one already."""
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
        free = shutil.disk_usage(file.parent).free if file.parent.is_dir() else 0
        raise RunError(
            f"cannot write {file}: {error.strerror} ({free / 2**20:.0f} MiB are free there): make room, or give "
            "another folder"
        ) from error
    return True


def _read(file: Path) -> Owner | None:
    """None where there is none. What cannot be read is somebody's all the same."""
    try:
        told = json.loads(file.read_bytes())
        owner = Owner(str(told["host"]), int(told["process"]), str(told["started"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return _UNKNOWN
    return owner if 0 < owner.process < 2**31 else _UNKNOWN


def _remove_stale(file: Path, owner: Owner) -> bool:
    """Whether it was ``owner``'s: another process may have taken it over a moment ago."""
    aside = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        file.replace(aside)
    except FileNotFoundError:
        return False
    if _read(aside) != owner:
        aside.replace(file)
        return False
    aside.unlink()
    return True


def _held(folder: Path, owner: Owner) -> UsageError:
    file = quoted(folder / LOCK)
    if owner == _UNKNOWN:
        return UsageError(f"{folder} has a lock that cannot be read: if no process writes there, rm {file}")
    if owner.host != platform.node():
        return UsageError(
            f"process {owner.process} on {owner.host} writes to {folder}, and whether it still runs cannot be seen "
            f"from here: give another folder with --out, or, if it has ended, rm {file}"
        )
    return UsageError(
        f"process {owner.process} is writing to {folder}: wait until it ends, stop it with kill {owner.process}, or "
        "give another folder with --out"
    )


def _give_back(hold: _Hold) -> None:
    with _changing:
        if _own(hold.file) is not hold:
            return
        del _holds[hold.file]
        if _read(hold.file) == Owner.this():
            with suppress(OSError):
                hold.file.unlink()
