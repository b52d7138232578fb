"""The store: open and sealed images, and the images that the student sees next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.sources.balancing import Choice
from dfad_fast.sources.banking.answering import Answering
from dfad_fast.sources.banking.epochs import Epochs
from dfad_fast.sources.banking.packing import Packed
from dfad_fast.sources.banking.sealed import Limits, Sealed
from dfad_fast.sources.banking.segments import Places, pick, show
from dfad_fast.sources.storage import Storage

_ANY = 2**40
"""Enough numbers that every image of a segment is equally likely."""


@dataclass(frozen=True)
class Shown:
    """A student step's ``images`` [n, C, H, W], and the teacher's ``logits`` [n, classes] if they are stored."""

    images: Tensor
    logits: Tensor | None


class Store:
    """Stores images as ``form``, one of ``FORMS``, with the teacher's answers from ``answering``.

    Added images stay open until they fill a segment, which is then sealed, see :class:`Sealed`. Only sealed images are
    shown: in epochs or, with ``repeats``, drawn so that the teacher's classes are balanced, see :class:`Choice`.
    ``seed`` fixes the views, the random evictions and the order of the images.
    """

    def __init__(
        self,
        limits: Limits,
        form: str,
        answering: Answering,
        seed: int,
        storage: Storage,
        in_state: bool = True,
        repeats: float | None = None,
    ) -> None:
        self._limits = limits
        self._form = form
        self._answering = answering
        self._rng = np.random.default_rng([seed, 2])
        self._epochs = Epochs(seed)
        self._open: list[Packed] = []
        self._repeats = repeats
        self._living: Places | None = None
        self._choice: Choice | None = None
        self.sealed = Sealed(limits, answering, self._rng, storage, in_state)

    @property
    def _open_tensors(self) -> list[Tensor]:
        return [tensor for part in self._open for tensor in (part.pixels, part.low, part.step)]

    @property
    def _open_count(self) -> int:
        return sum(map(len, self._open))

    @property
    def size(self) -> int:
        """Bytes of all stored data, including images that no longer count."""
        return sum(tensor.nbytes for tensor in [*self._open_tensors, *self.sealed.tensors])

    def add(self, images: Tensor) -> None:
        """Adds ``images`` [n, C, H, W], which become visible once their segment is full."""
        self._open.append(Packed.of(images, self._form))
        if self._open_count >= self._limits.segment:
            self.seal()

    def seal(self) -> None:
        """Makes a segment of the open images, if there are any."""
        if not self._open:
            return
        packed, self._open = Packed.cat(self._open), []
        self.sealed.add(packed)
        self._living = None
        self._epochs.restart()

    def missing(self, count: int) -> int:
        """How many images have to be added until ``count`` of them or more can be shown."""
        segment = self._limits.segment
        return max(0, -(-(count - self.sealed.count) // segment) * segment - self._open_count)

    def draw(self, count: int) -> tuple[Places, np.ndarray]:
        """The next ``count`` images, and the view of each. The store must not be empty."""
        if self._living is None:
            self._living = self.sealed.living()
            if self._repeats is not None:
                self._choice = Choice(torch.from_numpy(self.sealed.living_labels()), self._repeats)
        if self._choice is None:
            rows = self._epochs.take(len(self._living), count)
        else:
            rows = self._choice.draw(self._rng, count).numpy()
        places = self._living[rows]
        views = self._answering.views
        return places, self._rng.integers(0, views, count) if views else np.zeros(count, np.int64)

    def show(
        self, places: Places, view: np.ndarray, rows: slice, device: torch.device, dtype: torch.dtype
    ) -> Shown:
        """The images at the given ``rows`` of ``places``. Draws new views if none are stored."""
        segments = self.sealed.segments
        own = places[rows]
        if self._answering.views:
            views, logits = pick(segments, own, view[rows])
            logits = logits.to(device, torch.float32, non_blocking=True)
        else:
            # Every process draws for the whole batch.
            shape, logits = segments[0].packed.pixels.shape, None
            views = self._answering.draw(self._rng, len(places), shape, _ANY).select(rows)
            sizes = torch.tensor([len(segment) for segment in segments], device="cpu")
            views = replace(views, partner=views.partner % sizes[own.segment])
        return Shown(show([segment.packed for segment in segments], own, views, device, dtype), logits)

    def note(self, places: Places, difficulty: np.ndarray) -> None:
        """Records how difficult the images at ``places`` were for the student. Call it before the next ``add``."""
        for index in np.unique(places.segment):
            here = places.segment == index
            self.sealed.rolls[index].difficulty[places.row[here]] = difficulty[here]

    @property
    def unchanging(self) -> list[Tensor]:
        """Tensors of the state that nothing writes to."""
        return [*self._open_tensors, *self.sealed.unchanging]

    def state_dict(self) -> dict[str, Any]:
        return {
            **self.sealed.state_dict(),
            "open": [[part.pixels, part.low, part.step] for part in self._open],
            "epochs": self._epochs.state_dict(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of :meth:`state_dict`. Raises like :meth:`Sealed.load_state_dict`."""
        self.sealed.load_state_dict(state)
        device = self._answering.device
        self._open = [Packed(*(tensor.to(device) for tensor in part)) for part in state["open"]]
        self._epochs.load_state_dict(state["epochs"])
        self._rng.bit_generator.state = state["rng"]
        self._living = None
