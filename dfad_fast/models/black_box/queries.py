"""The queries of a black-box teacher: counted before they are sent, held to a budget, and their answers kept."""

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
    """What was to be asked is more than is left of the budget. None of it was sent."""


class Queries:
    """Which images were sent, in order, and what came back. A query is one image; the same image is none again.

    ``budget`` is the most queries, None without a limit. ``answers`` is the kind that was named, of ``ANSWERS``, and
    ``kind`` what they were recognized as. ``reached``
    is the number of queries that the run's position needs: less than ``count`` after a resumed run has gone back.
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
        """Images that were sent, those among them that no answer has come to."""
        return len(self._places)

    def unanswered(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Those of ``keys`` without an answer, each with its first place among them.

        Raises QueryBudgetSpent where those that were never sent are more than the budget has left, and RunError after
        ``close``.
        """
        found: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key not in self._places or not self._kept.has(self._places[key]):
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
        self._send(request, list(keys))
        return request

    def _send(self, request: str, keys: list[bytes]) -> None:
        if request not in self._requests:
            if self._journal:
                self._journal.sent(request, keys)
            self._note_sent(request, keys)

    def receive(self, request: str, rows: np.ndarray, kind: str) -> None:
        """Keeps the answers [N, width] to a request."""
        at = None
        if self._journal:
            if kind != self.kind:
                self._journal.kind(kind)
            at = self._journal.answered(request, rows)
        self.kind = kind
        self._note_answers(request, rows, at)

    def answers(self, keys: Sequence[bytes]) -> np.ndarray:
        """Those to ``keys`` [N, width], all of which are there."""
        places = [self._places[key] for key in keys]
        self.reached = max(self.reached, 1 + max(places))
        return self._kept.rows(places)

    def go_back(self, reached: int) -> None:
        """To a position that so many queries led to.

        Raises UsageError where they are more than are known of: they would be sent, and paid for, again.
        """
        if reached > self.count:
            raise UsageError(
                f"the run has sent {reached:,} images to its teacher, and its journal of queries tells of "
                f"{self.count:,}: bring back the file as the run left it, or start anew with dfad-fast distill"
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
        """From now on nothing is sent."""
        self._is_closed = True

    def leave_journal(self) -> None:
        """From now on nothing is noted, and all answers are in memory: the journal's file may be removed."""
        self._move(None)

    def begin_journal(self, path: Path) -> None:
        """From now on all is noted in the file ``path``, in place of what it holds; what was asked so far, first."""
        self._move(Journal(path))

    def _move(self, journal: Journal | None) -> None:
        told, kind = self._told(), self.kind
        if journal:
            journal.begin(self._run)
        self._forget(journal)
        self._tell(told, kind)

    def go_on_with_journal(self, path: Path) -> None:
        """Takes over what the file ``path`` tells, and notes there what was asked so far, and what comes.

        Raises UsageError for a file that is no journal, and for one of another kind of answers.
        """
        told, kind = self._told(), self.kind
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
        self._tell(told, kind)

    def _expected(self, kind: str, path: Path) -> str:
        if self._answers not in ("auto", kind):
            raise UsageError(
                f"the teacher's answers in {path} are {kind}, and {self._answers} were expected: go on with "
                f"answers={kind!r} (--teacher-answers {kind}), or start anew with dfad-fast distill"
            )
        return kind

    def _told(self) -> list[tuple[str, list[bytes], np.ndarray | None]]:
        """Each request so far, with its images and its answers."""
        told = []
        for request, keys in self._requests.items():
            places = [self._places[key] for key in keys]
            rows = self._kept.rows(places) if all(map(self._kept.has, places)) else None
            told.append((request, keys, rows))
        return told

    def _forget(self, journal: Journal | None) -> None:
        self._places, self._requests = {}, {}
        self._journal, self._kept, self.kind = journal, KeptAnswers(journal), None

    def _tell(self, told: list[tuple[str, list[bytes], np.ndarray | None]], kind: str | None) -> None:
        """What was asked before, but for what is known."""
        for request, keys, rows in told:
            self._send(request, keys)
            if rows is not None and kind and not all(self._kept.has(self._places[key]) for key in keys):
                self.receive(request, rows, kind)


def image_key(image: np.ndarray) -> bytes:
    """What stands for the exact image: a hash of its bytes."""
    return hashlib.blake2b(np.ascontiguousarray(image, "<f4").tobytes(), digest_size=KEY_BYTES).digest()
