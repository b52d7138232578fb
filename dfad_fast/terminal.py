"""Output to the terminal: no control sequences, and no error after the reader has gone."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Control characters except tab and newline, lone surrogates (from file names that are not valid text), and characters
# that change the writing direction or end a line.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""``text`` with control characters and escape sequences spelled out, as ``\x1b``.

    Names of files, networks and classes may contain any.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found.group())[1:-1], text)


def quoted(path: str | Path) -> str:
    """``path`` quoted for a shell."""
    name = str(path)
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


class Stream:
    """A text stream whose reader may close it at any time: output that cannot be written is dropped.

    ``stream`` is None if it was closed before the process started.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream if stream is not None else open(os.devnull, "w")  # noqa: SIM115
        self.reader_left = False
        """Whether it is a pipe whose reader has closed it."""

    def write(self, text: str) -> int:
        """Writes the text, with characters that the encoding lacks spelled out; returns its length."""
        with self._dropping():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        with self._dropping():
            self._stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.EPIPE:
                self.reader_left = True
            # Otherwise what is still buffered fails again when Python exits.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def outliving_readers() -> Iterator[Stream]:
    """Inside the block stdout and stderr are such streams; yields the one of stdout."""
    before = sys.stdout, sys.stderr
    guarded = Stream(sys.stdout), Stream(sys.stderr)
    sys.stdout, sys.stderr = guarded
    try:
        yield guarded[0]
    finally:
        for stream in guarded:
            stream.flush()
        sys.stdout, sys.stderr = before
