"""The queries of a black-box teacher: counted before they are sent, held to a budget, and their answers kept."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dfad_fast.errors import RunError
from dfad_fast.models.black_box.journal import KEY_BYTES, Journal, read_journal


class QueryBudgetSpent(RunError):
    """What was to be asked is more than is left of the budget. None of it was sent."""


class Queries:
    """Which images were sent, in order, and what came back. A query is one image; the same image is none again.

    ``budget`` is the most queries, None without a limit. ``kind`` is what the answers were recognized as. ``reached``
    is the number of queries that the run's position needs: less than ``count`` after a resumed run has gone back.
    """

    def __init__(self, budget: int | None) -> None:
        self.budget = budget
        self.kind: str | None = None
        self.reached = 0
        self._run = uuid.uuid4().hex
        self._places: dict[bytes, int] = {}
        self._answers: list[np.ndarray | None] = []
        self._requests: dict[str, list[bytes]] = {}
        self._journal: Journal | None = None
        self._is_closed = False

    @property
    def count(self) -> int:
        """Images that were sent, those among them that no answer has come to."""
        return len(self._places)

    def unanswered(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Those of ``keys`` without an answer, each with its first place among them.

        Raises QueryBudgetSpent where those that were never sent are more than the budget has left, and RunError after
        ``close``.
        """
        found: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key not in self._places or self._answers[self._places[key]] is None:
                found.setdefault(key, place)
        if found and self._is_closed:
            raise RunError(
                "a black-box teacher is asked while its student learns, and not by this command: choose export, report "
                "or compare"
            )
        new = sum(key not in self._places for key in found)
        if self.budget is not None and new and self.count + new > self.budget:
            raise QueryBudgetSpent(
                f"the query budget of {self.budget:,} is used up: {self.count:,} images were sent and {new:,} more are "
                "wanted"
            )
        return found

    def send(self, keys: Sequence[bytes]) -> str:
        """Notes that these images are about to be sent, and gives the key of the request: the same for the same
        images, so that a server can tell a request that is repeated."""
        request = hashlib.blake2b(b"".join([self._run.encode(), *keys]), digest_size=KEY_BYTES).hexdigest()
        if request not in self._requests:
            if self._journal:
                self._journal.sent(request, keys)
            self._note_sent(request, list(keys))
        return request

    def receive(self, request: str, rows: np.ndarray, kind: str) -> None:
        """Keeps the answers [N, width] to a request."""
        if self._journal:
            if kind != self.kind:
                self._journal.kind(kind)
            self._journal.answered(request, rows)
        self.kind = kind
        self._note_answers(request, rows)

    def answers(self, keys: Sequence[bytes]) -> np.ndarray:
        """Those to ``keys`` [N, width], all of which are there."""
        places = [self._places[key] for key in keys]
        self.reached = max(self.reached, 1 + max(places))
        return np.stack([row for row in map(self._answers.__getitem__, places) if row is not None])

    def _note_sent(self, request: str, keys: list[bytes]) -> None:
        self._requests[request] = keys
        for key in keys:
            if key not in self._places:
                self._places[key] = len(self._answers)
                self._answers.append(None)

    def _note_answers(self, request: str, rows: np.ndarray) -> None:
        for key, row in zip(self._requests[request], rows, strict=True):
            self._answers[self._places[key]] = row

    def close(self) -> None:
        """From now on nothing is sent."""
        self._is_closed = True

    def begin_journal(self, path: Path) -> None:
        """From now on all is noted in the file ``path``, in place of what it holds; what was asked so far, first."""
        journal = Journal(path)
        journal.begin(self._run)
        if self.kind:
            journal.kind(self.kind)
        for request, keys in self._requests.items():
            journal.sent(request, keys)
            rows = [self._answers[self._places[key]] for key in keys]
            if all(row is not None for row in rows):
                journal.answered(request, np.stack([row for row in rows if row is not None]))
        self._journal = journal

    def go_on_with_journal(self, path: Path) -> None:
        """Takes over what the file ``path`` tells, and notes there what comes.

        Raises UsageError for a file that is no journal.
        """
        for entry in read_journal(path):
            if "run" in entry:
                self._run = entry["run"]
            elif "kind" in entry:
                self.kind = entry["kind"]
            elif "sent" in entry:
                self._note_sent(entry["sent"], entry["images"])
            else:
                self._note_answers(entry["answered"], entry["rows"])
        self._journal = Journal(path)


def image_key(image: np.ndarray) -> bytes:
    """What stands for the exact image: a hash of its bytes."""
    return hashlib.blake2b(np.ascontiguousarray(image, "<f4").tobytes(), digest_size=KEY_BYTES).digest()
