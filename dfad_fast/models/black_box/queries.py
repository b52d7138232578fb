"""The queries of a black-box teacher: they are counted before they are sent, within a budget, and answers are kept."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dfad_fast.errors import RunError, UsageError
from dfad_fast.models.black_box.journal import KEY_BYTES, Journal
from dfad_fast.models.black_box.kept import KeptAnswers


class QueryBudgetSpent(RunError):
    """A request needs more queries than the budget has left. Nothing of it was sent."""


class Queries:
    """The images that were sent, in order, and the answers. A query is one image; repeating an image is free.

    ``budget`` is the maximum number of queries, or None. ``answers`` is the requested kind, one of ``ANSWERS``, and
    ``kind`` the recognized one. ``reached`` is the number of queries up to the run's position: less than ``count``
    after a resumed run has gone back.
    """

    def __init__(self, budget: int | None, answers: str = "auto") -> None:
        self.budget = budget
        self.kind: str | None = None
        self.reached = 0
        self._answers = answers
        self._run = uuid.uuid4().hex
        self._places: dict[bytes, int] = {}
        self._requests: dict[str, list[bytes]] = {}
        self._kept = KeptAnswers()
        self._journal: Journal | None = None
        self._is_closed = False

    @property
    def count(self) -> int:
        """The number of images that were sent, with or without an answer."""
        return len(self._places)

    def unanswered(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The ``keys`` without an answer, each with its first index among them.

        Raises QueryBudgetSpent if more of them were never sent than the budget has left, and RunError after ``close``.
        """
        found: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key not in self._places or not self._kept.has(self._places[key]):
                found.setdefault(key, place)
        if found and self._is_closed:
            raise RunError(
                "a black-box teacher is queried only while its student learns, not by this command: choose export, "
                "report or compare"
            )
        new = sum(key not in self._places for key in found)
        if self.budget is not None and new and self.count + new > self.budget:
            raise QueryBudgetSpent(
                f"the query budget of {self.budget:,} is used up: {self.count:,} images were sent and {new:,} more are "
                "needed"
            )
        return found

    def send(self, keys: Sequence[bytes]) -> str:
        """Records that these images are about to be sent, and returns the key of the request.

        The same images give the same key, so that a server recognizes a repeated request.
        """
        request = hashlib.blake2b(b"".join([self._run.encode(), *keys]), digest_size=KEY_BYTES).hexdigest()
        self._send(request, list(keys))
        return request

    def _send(self, request: str, keys: list[bytes]) -> None:
        if request not in self._requests:
            if self._journal:
                self._journal.sent(request, keys)
            self._note_sent(request, keys)

    def receive(self, request: str, rows: np.ndarray, kind: str) -> None:
        """Stores the answers [N, width] to a request."""
        at = None
        if self._journal:
            if kind != self.kind:
                self._journal.kind(kind)
            at = self._journal.answered(request, rows)
        self.kind = kind
        self._note_answers(request, rows, at)

    def answers(self, keys: Sequence[bytes]) -> np.ndarray:
        """The answers [N, width] to ``keys``, all of which must have one."""
        places = [self._places[key] for key in keys]
        self.reached = max(self.reached, 1 + max(places))
        return self._kept.rows(places)

    def go_back(self, reached: int) -> None:
        """Goes back to the run's position after ``reached`` queries.

        Raises UsageError if fewer queries are recorded: the others would be sent, and paid for, again.
        """
        if reached > self.count:
            raise UsageError(
                f"the run has sent {reached:,} images to its teacher, but its journal of queries lists {self.count:,}: "
                "restore the file, or start over with dfad-fast distill --overwrite"
            )
        self.reached = reached

    def _note_sent(self, request: str, keys: list[bytes]) -> None:
        self._requests[request] = keys
        for key in keys:
            if key not in self._places:
                self._places[key] = self._kept.add_image()

    def _note_answers(self, request: str, rows: np.ndarray, at: int | None) -> None:
        self._kept.put([self._places[key] for key in self._requests[request]], rows, at)

    def close(self) -> None:
        """Forbids further requests."""
        self._is_closed = True

    def leave_journal(self) -> None:
        """Stops writing to the journal and keeps all answers in memory, so that the file may be removed."""
        self._move(None)

    def begin_journal(self, path: Path) -> None:
        """Replaces the file ``path`` with a journal of the queries so far, and adds all further ones to it."""
        self._move(Journal(path))

    def _move(self, journal: Journal | None) -> None:
        requests, kind = self._all_requests(), self.kind
        if journal:
            journal.begin(self._run)
        self._forget(journal)
        self._replay(requests, kind)

    def resume_journal(self, path: Path) -> None:
        """Reads the journal in the file ``path``, and adds the queries so far and all further ones to it.

        Raises UsageError for a file that is not a journal, and for one with another kind of answers.
        """
        requests, kind = self._all_requests(), self.kind
        journal = Journal(path)
        self._forget(journal)
        for at, entry in journal.entries():
            if "run" in entry:
                self._run = entry["run"]
            elif "kind" in entry:
                self.kind = self._expected(entry["kind"], path)
            elif "sent" in entry:
                self._note_sent(entry["sent"], entry["images"])
            else:
                self._note_answers(entry["answered"], entry["rows"], at)
        self._replay(requests, kind)

    def _expected(self, kind: str, path: Path) -> str:
        if self._answers not in ("auto", kind):
            raise UsageError(
                f"the teacher's answers in {path} are {kind}, expected {self._answers}: continue with "
                f"answers={kind!r} (--teacher-answers {kind}), or start over with dfad-fast distill --overwrite"
            )
        return kind

    def _all_requests(self) -> list[tuple[str, list[bytes], np.ndarray | None]]:
        """All requests so far, with their images and answers."""
        requests = []
        for request, keys in self._requests.items():
            places = [self._places[key] for key in keys]
            rows = self._kept.rows(places) if all(map(self._kept.has, places)) else None
            requests.append((request, keys, rows))
        return requests

    def _forget(self, journal: Journal | None) -> None:
        self._places, self._requests = {}, {}
        self._journal, self._kept, self.kind = journal, KeptAnswers(journal), None

    def _replay(self, requests: list[tuple[str, list[bytes], np.ndarray | None]], kind: str | None) -> None:
        """Adds earlier requests, unless they are recorded already."""
        for request, keys, rows in requests:
            self._send(request, keys)
            if rows is not None and kind and not all(self._kept.has(self._places[key]) for key in keys):
                self.receive(request, rows, kind)


def image_key(image: np.ndarray) -> bytes:
    """A hash of the image's bytes, which identifies it."""
    return hashlib.blake2b(np.ascontiguousarray(image, "<f4").tobytes(), digest_size=KEY_BYTES).digest()
