"""Tells callbacks of a run's events, and treats what they raise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from inspect import iscoroutinefunction

from dfad_fast.errors import UsageError
from dfad_fast.runs.events import Callback, Failed
from dfad_fast.runs.interruption import Interruption
from dfad_fast.runs.writer import RunWriter

_EVENTS = [name for name in vars(Callback) if not name.startswith("_")]


def as_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """The callbacks as a list. Raises UsageError for one of another class, or with async functions."""
    if not isinstance(callbacks, Iterable):
        raise UsageError(f"callbacks is a list, got {type(callbacks).__name__}: put the callback in a list")
    given = list(callbacks)
    for callback in given:
        if not isinstance(callback, Callback):
            came = f"the class {callback.__name__}" if isinstance(callback, type) else type(callback).__name__
            raise UsageError(
                f"a callback is an object of a class derived from dfad_fast.runs.events.Callback, got {came}"
            )
        if name := next((name for name in _EVENTS if iscoroutinefunction(getattr(callback, name))), None):
            kind = type(callback).__name__
            raise UsageError(
                f"{kind}.{name} is an async function, which fit would never await: write def {name}"
            )
    return given


class Listeners:
    """The callbacks of a run. ``save`` is called when one raises, before its error ends the run."""

    def __init__(
        self, callbacks: Sequence[Callback], interruption: Interruption, save: Callable[[], None]
    ) -> None:
        self._callbacks = callbacks
        self._interruption = interruption
        self._save = save

    def tell(self, tell: Callable[[Callback], None]) -> None:
        """Calls ``tell`` with each callback."""
        for callback in self._callbacks:
            try:
                with self._interruption.taken():
                    tell(callback)
            except Exception:
                self._save()
                raise

    def _tell_all(self, tell: Callable[[Callback], None], failed: bool) -> None:
        """Calls every callback even if one raises. If the run ``failed``, its own error takes precedence."""
        raised: list[Exception] = []
        for callback in self._callbacks:
            try:
                tell(callback)
            except Exception as error:
                raised.append(error)
        if raised and not failed:
            raise raised[0]

    @contextmanager
    def closed_at_the_end(self) -> Iterator[None]:
        """Tells every callback at the end of the block that the run is closed."""
        failed = True
        try:
            yield
            failed = False
        finally:
            self._tell_all(lambda callback: callback.closed(failed), failed)

    @contextmanager
    def told_of_failure(self, writer: RunWriter) -> Iterator[None]:
        """Notes an error in the run's folder, and tells the callbacks if the folder still belongs to this run."""
        try:
            yield
        except Exception as error:
            if writer.note_failure(error):
                failure = Failed(error)
                self._tell_all(lambda callback: callback.failed(failure), failed=True)
            raise
