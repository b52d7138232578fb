"""The store: what is open, what is sealed, and which images the student is shown next."""

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
"""So many numbers that of each segment every image is as likely."""


@dataclass(frozen=True)
class Shown:
    """What a student's step gets: ``images`` [n, C, H, W], and the teacher's ``logits`` [n, classes] where they are
    stored."""

    images: Tensor
    logits: Tensor | None


class Store:
    """Keeps images in the form ``form``, of ``FORMS``, each with the answers that ``answering`` has of the teacher.

    What is added is open until it fills a segment, which is sealed then, see :class:`Sealed`. Only sealed images are
    shown. ``seed`` fixes views, what goes by chance, and the order in which images are shown: each once before any
    comes again or, with ``repeats``, drawn so that the teacher's classes are balanced, see :class:`Choice`.
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
    def size(self) -> int:
        """Bytes of all that is held, of what no longer counts too."""
        return sum(tensor.nbytes for tensor in [*self._open_tensors, *self.sealed.tensors])

    def add(self, images: Tensor) -> None:
        """``images`` [n, C, H, W], which become visible with the segment that they fill."""
        self._open.append(Packed.of(images, self._form))
        if sum(map(len, self._open)) >= self._limits.segment:
            packed, self._open = Packed.cat(self._open), []
            self.sealed.add(packed)
            self._living = None
            self._epochs.restart()

    def draw(self, count: int) -> tuple[Places, np.ndarray]:
        """The next ``count`` images, and which view of each. There has to be one."""
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
        """Those of ``places`` that ``rows`` says. Where no views are stored, new ones are drawn."""
        segments = self.sealed.segments
        own = places[rows]
        if self._answering.views:
            views, logits = pick(segments, own, view[rows])
            logits = logits.to(device, torch.float32, non_blocking=True)
        else:
            # Drawn for the whole batch, in each process.
            shape, logits = segments[0].packed.pixels.shape, None
            views = self._answering.draw(self._rng, len(places), shape, _ANY).select(rows)
            sizes = torch.tensor([len(segment) for segment in segments])
            views = replace(views, partner=views.partner % sizes[own.segment])
        return Shown(show([segment.packed for segment in segments], own, views, device, dtype), logits)

    def note(self, places: Places, difficulty: np.ndarray) -> None:
        """How difficult the images at ``places`` were for the student. Not after another ``add``."""
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
        """Goes back to where :meth:`state_dict` was taken. Raises as :meth:`Sealed.load_state_dict`."""
        self.sealed.load_state_dict(state)
        device = self._answering.device
        self._open = [Packed(*(tensor.to(device) for tensor in part)) for part in state["open"]]
        self._epochs.load_state_dict(state["epochs"])
        self._rng.bit_generator.state = state["rng"]
        self._living = None
