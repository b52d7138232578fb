"""What ends a run early: signals such as Ctrl-C, and a KeyboardInterrupt or SystemExit of the caller's code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from dfad_fast.distributed import processes
from dfad_fast.interrupt import StopOnSignal


class Interruption:
    """Whether the run should end after the current iteration. Inside the block, signals ask for it.

    At the end of the block, a SystemExit that was taken is raised again.
    """

    def __init__(self) -> None:
        self._signal = StopOnSignal()
        self.raised: BaseException | None = None
        """What the caller's code raised first, such as SystemExit in a callback."""

    def __enter__(self) -> Interruption:
        self._signal.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal.__exit__(kind, error, trace)
        if error is None and isinstance(self.raised, SystemExit):
            raise self.raised

    @property
    def requested(self) -> bool:
        """Whether a signal came, or the caller's code raised."""
        return self._signal.requested or self.raised is not None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Around code of the caller: takes its KeyboardInterrupt or SystemExit as a request.

        Not after a signal, since a second Ctrl-C does not wait, nor in one process of several, since the others do not
        notice it.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as raised:
            if self._signal.requested or processes.count() > 1:
                raise
            self.raised = self.raised or raised
