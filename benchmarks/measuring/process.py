"""Contenders' processes.

A process receives commands over a pipe and returns its measurements. So contenders can take turns and all see the same
load of the machine. The C library's allocator is pinned: by default it returns large blocks to the system after use and
pays page faults for them at the next call. This can make eager mode several times slower in one process than in
another. Some cases are also measured with the default allocator.
"""

from __future__ import annotations

import importlib
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.measuring.settings import Settings

PINNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}
ALLOCATORS = {"pinned": PINNED, "default": {}}


class Lost(Exception):
    """A contender's process failed, died or timed out; the message says which."""


def _serve(pipe: Connection, log: str, threads: int, device: str, module: str) -> None:
    # Ctrl-C reaches the whole process group. Only the parent handles it, and ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import torch

    from benchmarks.measuring.memory import release_memory

    contestants = importlib.import_module(module)
    torch.set_num_threads(threads)
    current: Any = None
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if name == "enter":
                current = None
                release_memory()
                current = contestants.enter(*arguments, device)
                answer = current.prepare()
            else:
                answer = getattr(current, name)(*arguments)
            pipe.send((True, answer))
        except Exception as error:
            traceback.print_exc()
            pipe.send((False, f"{type(error).__name__}: {error}"))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


class Process:
    """A child process that runs contestants. Requests are sent without waiting; responses arrive in order.

    ``module`` is the name of the contestants' module, whose ``enter`` creates one.
    """

    def __init__(self, settings: Settings, allocator: str, folder: Path, module: str) -> None:
        self._settings = settings
        handle, log = tempfile.mkstemp(".log", dir=folder)
        os.close(handle)
        self._log = Path(log)
        environment = {
            **ALLOCATORS[allocator],
            "OMP_NUM_THREADS": str(settings.threads),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            # Idle compile workers would outlive the compilation.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, log, settings.threads, settings.device, module)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with _environment(environment):
            self._process.start()
        theirs.close()

    def ask(self, name: str, *arguments: Any) -> None:
        try:
            self._pipe.send((name, arguments))
        except OSError:
            raise self._death() from None

    def answer(self) -> Any:
        try:
            if not self._pipe.poll(self._settings.answer_seconds):
                self.close()
                raise Lost(f"no response within {self._settings.answer_seconds:g} s")
            succeeded, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if not succeeded:
            raise Lost(_first_line(value))
        return value

    def _death(self) -> Lost:
        self._process.join(5)
        code = self._process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return Lost(f"its process died ({how})" + (f": {lines[-1][:200]}" if lines else ""))

    def close(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else "an error without a message"


@dataclass
class Entry:
    """One contender in a race, and its results."""

    contender: str
    process: Process
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    turns: dict[str, list[Any]] = field(default_factory=dict)

    def ask(self, name: str, *arguments: Any) -> None:
        self._attempt(lambda: self.process.ask(name, *arguments))

    def answer(self) -> Any:
        return self._attempt(self.process.answer)

    def _attempt(self, action: Callable[[], Any]) -> Any:
        """The action's result; None, with the reason recorded, if the process is lost."""
        if self.problem is not None:
            return None
        try:
            return action()
        except Lost as lost:
            self.problem = str(lost)
            return None
