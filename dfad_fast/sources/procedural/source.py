"""Procedural images as a source: drawn on the fly from the run's seed, without repetition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from dfad_fast.distributed import processes
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.sources.procedural.choosing import choose_drawing
from dfad_fast.sources.procedural.drawing import parse_surround
from dfad_fast.sources.procedural.kinds import parse_kinds
from dfad_fast.sources.procedural.stock import Stock
from dfad_fast.sources.source import Batch, Plan, Source, Turn, Workbench
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class Procedural(SourceSpec):
    """Images drawn by a program without repetition: no generator and no training.

    ``kinds`` is ``all``, or some of ``leaves``, ``noise``, ``shapes`` and ``gradients`` joined by ``_``, such as
    ``leaves_shapes``. ``surround`` is what surrounds an image's object: ``none``, ``dark`` or ``light``. ``auto``
    chooses the best fit to the statistics of the teacher's batch norm layers, which also choose the shares of several
    kinds.

    Raises UsageError for unknown words.
    """

    kinds: str = "all"
    surround: str = "auto"

    name: ClassVar[str] = "procedural"

    def __post_init__(self) -> None:
        parse_kinds(self.kinds)
        parse_surround(self.surround)

    def make(self, bench: Workbench, plan: Plan) -> Source:
        return ProceduralSource(self, bench, plan)


class ProceduralSource(Source):
    """Several processes draw the same images, and each shows its own rows of them."""

    def __init__(self, spec: Procedural, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        form, seed, passes = bench.form, bench.seed, bench.prober.passes
        before = passes.teacher
        drawing = choose_drawing(parse_kinds(spec.kinds), spec.surround, bench.prober, form, seed)
        # These images belong to no iteration yet and count in the first one.
        self._passes, passes.teacher = passes.teacher - before, before
        pinned = bench.device.type == "cuda"
        self._stock = Stock(drawing, form, np.random.default_rng([seed, 21]), pinned)

    @property
    def notices(self) -> list[str]:
        return [f"procedural images: {self._stock.drawing}"]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        self._bench.prober.passes.teacher += self._passes
        self._passes = 0
        for _ in range(self._plan.student_steps):
            size = self._bench.batch_size
            turn.generated += size
            images = self._placed(self._stock.take(size)[processes.own_rows(size)])
            yield self._bench.see(images, self._plan.student)

    def _placed(self, images: Tensor) -> Tensor:
        dtype = image_dtype(self._bench.prober.trio.student)
        return images.to(self._bench.device, dtype, non_blocking=True)

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor]:
        rng, form = np.random.default_rng([self._bench.seed, 22]), self._bench.form
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            pixels = self._stock.drawing.draw(rng, size, form.shape)
            yield self._placed(form.normalize(pixels))

    def state_dict(self) -> dict[str, Any]:
        return {**self._stock.state_dict(), "passes": self._passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._stock.load_state_dict(state)
        self._passes = state["passes"]
