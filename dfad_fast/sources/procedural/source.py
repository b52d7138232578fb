"""Procedural images as a source: drawn on the fly from the run's seed, without repetition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from dfad_fast.distributed import processes
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.sources.procedural.drawing import parse_surround
from dfad_fast.sources.procedural.fitted import FittedStock
from dfad_fast.sources.procedural.kinds import parse_kinds
from dfad_fast.sources.source import Batch, Plan, Source, Turn, Workbench
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class Procedural(SourceSpec):
    """Images drawn by a program without repetition: no generator and no training.

    ``kinds`` is ``all``, or some of ``leaves``, ``noise``, ``shapes`` and ``gradients`` joined by ``_``, such as
    ``leaves_shapes``. ``surround`` is what surrounds an image's object: ``none``, ``dark`` or ``light``. ``auto``
    chooses the best fit to the statistics of the teacher's batch norm layers, which also choose the shares of several
    kinds. Without such layers the drawings with the most certain and varied answers are chosen; a black-box teacher
    is not asked.

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
        self._stock = FittedStock(bench, spec.kinds, spec.surround, row=21)

    @property
    def notices(self) -> list[str]:
        return [self._stock.notice]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        for _ in range(self._plan.student_steps):
            size = self._bench.batch_size
            turn.generated += size
            images = self._placed(self._stock.take(size)[processes.own_rows(size)])
            yield self._bench.see(images, self._plan.student)

    def _placed(self, images: Tensor) -> Tensor:
        dtype = image_dtype(self._bench.prober.trio.student)
        return images.to(self._bench.device, dtype, non_blocking=True)

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor]:
        rng = np.random.default_rng([self._bench.seed, 22])
        for start in range(0, count, batch_size):
            yield self._placed(self._stock.draw(rng, min(batch_size, count - start)))

    def recall(self, state: dict[str, Any]) -> None:
        self._stock.recall(state)

    def state_dict(self) -> dict[str, Any]:
        return self._stock.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._stock.load_state_dict(state)
