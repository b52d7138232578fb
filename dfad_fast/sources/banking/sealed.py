"""The sealed segments: which of their images stay, and where they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dfad_fast.sources.banking.answering import Answering
from dfad_fast.sources.banking.keeping import Roll, ranks
from dfad_fast.sources.banking.packing import Packed
from dfad_fast.sources.banking.segments import Places, Segment
from dfad_fast.sources.storage import Storage


@dataclass(frozen=True)
class Limits:
    """At most ``images`` images stay, in segments of about ``segment``; ``keep`` says which, see ``KEEPING``.

    With ``labeled`` the roll holds the teacher's classes whatever ``keep`` is.
    """

    images: int
    segment: int
    keep: str = "age"
    labeled: bool = False


class Sealed:
    """Segments of images with the teacher's answers, and a roll of each. Nothing writes to a segment.

    They are in the state or, unless ``in_state``, in ``storage``. At most ``limits.images`` images count at any time.
    With keep=age whole segments go. Otherwise single images go, and segments that are at most half alive are joined.
    ``rng`` draws views and keys.
    """

    def __init__(
        self,
        limits: Limits,
        answering: Answering,
        rng: np.random.Generator,
        storage: Storage,
        in_state: bool,
    ) -> None:
        self._limits = limits
        self._answering = answering
        self._storage = storage
        self._in_state = in_state
        self._rng = rng
        self.segments: list[Segment] = []
        self.rolls: list[Roll] = []
        self.has_been_full = False
        """Whether any image was evicted."""
        self._next = 0

    @property
    def count(self) -> int:
        """The number of images that count."""
        return sum(int(roll.alive.sum()) for roll in self.rolls)

    @property
    def tensors(self) -> list[Tensor]:
        """Those of all segments."""
        return [tensor for segment in self.segments for tensor in segment.tensors.values()]

    def living(self) -> Places:
        """All images that count."""
        rows = [roll.living for roll in self.rolls]
        of = [np.full(len(living), index) for index, living in enumerate(rows)]
        return Places(np.concatenate(of), np.concatenate(rows))

    def living_labels(self) -> np.ndarray:
        """The teacher's classes of the images of :meth:`living`, in that order; -1 where they are not known."""
        return np.concatenate([roll.label[roll.living] for roll in self.rolls])

    def add(self, packed: Packed) -> None:
        """Seals a segment of ``packed`` images; older images go if there are too many."""
        views, logits = self._answering.answer(self._rng, packed)
        label = np.full(len(packed), -1)
        if self._limits.labeled or self._limits.keep == "balanced":
            label = self._answering.labels(packed, logits).cpu().numpy()
        key, unseen = self._rng.random(len(packed)), np.full(len(packed), np.inf, np.float32)
        self._put(packed, views, logits, Roll(np.ones(len(packed), bool), key, label, unseen))
        if self._limits.keep == "age":
            while self.count > self._limits.images and len(self.segments) > 1:
                self.has_been_full = True
                self._drop([0])
        elif (excess := self.count - self._limits.images) > 0:
            self.has_been_full = True
            self._evict(excess)
            self._join()

    def _put(self, packed: Packed, views: Tensor, logits: Tensor, roll: Roll) -> None:
        segment = Segment(self._next, packed, views, logits)
        if not self._in_state:
            segment = Segment.of(self._next, self._storage.keep(_name(self._next), segment.tensors))
        self._next += 1
        self.segments.append(segment)
        self.rolls.append(roll)

    def _evict(self, count: int) -> None:
        whole = Roll.cat(self.rolls)
        living = whole.living
        order = np.argsort(ranks(self._limits.keep, whole.select(living)), kind="stable")
        whole.alive[living[order[:count]]] = False
        ends = np.cumsum([len(roll) for roll in self.rolls])[:-1]
        for roll, part in zip(self.rolls, np.split(whole.alive, ends), strict=True):
            roll.alive = part

    def _join(self) -> None:
        """Joins segments that are at most half alive.

        So all segments together hold at most twice the living images, plus one segment.
        """
        poor = [i for i, roll in enumerate(self.rolls) if 2 * roll.alive.sum() <= self._limits.segment]
        rest = [i for i in poor if self.rolls[i].alive.any()]
        if len(rest) < 2:
            self._drop(set(poor) - set(rest))
            return
        old = self.segments
        rows = [self.rolls[i].living for i in rest]
        of = np.repeat(rest, [len(living) for living in rows])
        places = Places(of, np.concatenate(rows))
        roll = Roll.cat([self.rolls[i].select(living) for i, living in zip(rest, rows, strict=True)])
        self._drop(poor)
        size = self._limits.segment
        for first in range(0, len(places), size):
            part = places[first : first + size]
            packed = Packed(
                part.take(lambda i: old[i].packed.pixels),
                part.take(lambda i: old[i].packed.low),
                part.take(lambda i: old[i].packed.step),
            )
            if self._answering.mixes:  # partners may have been evicted
                views, logits = self._answering.answer(self._rng, packed)
            else:
                views = part.take(lambda i: old[i].views)
                logits = part.take(lambda i: old[i].logits)
            self._put(packed, views, logits, roll.select(np.arange(len(places))[first : first + size]))

    def _drop(self, indexes: Iterable[int]) -> None:
        gone = set(indexes)
        for index in gone:
            self._storage.remove(_name(self.segments[index].number))
        kept = [index for index in range(len(self.segments)) if index not in gone]
        self.segments = [self.segments[index] for index in kept]
        self.rolls = [self.rolls[index] for index in kept]

    @property
    def unchanging(self) -> list[Tensor]:
        """Tensors of the state that nothing writes to."""
        return self.tensors if self._in_state else []

    def state_dict(self) -> dict[str, Any]:
        """The state without that of ``rng``; for segments in a storage, their names there."""
        if not self._in_state:
            self._keep_what_is_gone()
        return {
            "segments": [
                {
                    "number": segment.number,
                    "name": self._storage.whole_name(_name(segment.number)),
                    "tensors": segment.tensors if self._in_state else {},
                }
                for segment in self.segments
            ],
            "rolls": [roll.state_dict() for roll in self.rolls],
            "has_been_full": self.has_been_full,
            "next": self._next,
        }

    def _keep_what_is_gone(self) -> None:
        """The run's folder may have been removed, but open files stay readable."""
        held = set(self._storage.names())
        for segment in self.segments:
            if (name := _name(segment.number)) not in held:
                self._storage.keep(name, segment.tensors)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of :meth:`state_dict`, wherever its segments were stored.

        Raises UsageError if they were in a storage and there is none, and RunError if one is missing.
        """
        self.segments = [self._load(kept["number"], kept["tensors"]) for kept in state["segments"]]
        self.rolls = [Roll.of(roll) for roll in state["rolls"]]
        self.has_been_full = state["has_been_full"]
        self._next = state["next"]
        used = set() if self._in_state else {_name(segment.number) for segment in self.segments}
        for name in set(self._storage.names()) - used:
            self._storage.remove(name)

    def _load(self, number: int, tensors: dict[str, Tensor]) -> Segment:
        if not tensors:
            tensors = self._storage.read(_name(number))
        elif not self._in_state:
            tensors = self._storage.keep(_name(number), tensors)
        if self._in_state:
            device = self._answering.device
            tensors = {name: x if name == "views" else x.to(device) for name, x in tensors.items()}
        return Segment.of(number, tensors)


def _name(number: int) -> str:
    return f"{number:08d}"
