"""A stock of the drawings that suit the teacher best."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from dfad_fast.sources.procedural.choosing import choose_drawing
from dfad_fast.sources.procedural.drawing import Drawing
from dfad_fast.sources.procedural.kinds import parse_kinds
from dfad_fast.sources.procedural.stock import Stock
from dfad_fast.sources.source import Workbench


class FittedStock:
    """Chooses the drawing when it is created, if the run has not chosen one yet.

    The teacher's passes for that belong to no iteration yet, so they count when the first images are taken. ``row``
    keeps the random numbers of this stock apart from those of other sources.
    """

    def __init__(self, bench: Workbench, kinds: str, surround: str, row: int) -> None:
        self._counted = bench.prober.passes
        before = self._counted.teacher
        drawing = choose_drawing(parse_kinds(kinds), surround, bench.prober, bench.form, bench.seed)
        self._passes, self._counted.teacher = self._counted.teacher - before, before
        pinned = bench.device.type == "cuda"
        self._stock = Stock(drawing, bench.form, np.random.default_rng([bench.seed, row]), pinned)

    @property
    def drawing(self) -> Drawing:
        """How the images are drawn."""
        return self._stock.drawing

    @property
    def notice(self) -> str:
        """The notice for the user."""
        return f"procedural images: {self.drawing}"

    def take(self, count: int) -> Tensor:
        """The next images [count, C, H, W], float32 on the CPU."""
        self._counted.teacher += self._passes
        self._passes = 0
        return self._stock.take(count)

    def draw(self, rng: np.random.Generator, count: int) -> Tensor:
        """Further images [count, C, H, W], drawn with ``rng``: the stock stays as it is."""
        return self._stock.form.normalize(self.drawing.draw(rng, count, self._stock.form.shape))

    def recall(self, state: dict[str, Any]) -> None:
        """Restores the drawing of a finished run."""
        self._stock.recall(state)

    def state_dict(self) -> dict[str, Any]:
        return {**self._stock.state_dict(), "passes": self._passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._stock.load_state_dict(state)
        self._passes = state["passes"]
