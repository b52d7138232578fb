"""A source that adds batches to those of another source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from dfad_fast.sources.source import Batch, Source


class Around(Source):
    """Forwards everything to the inner source, whose state it keeps under ``source``."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def student_steps(self) -> int:
        return self._source.student_steps + 1

    @property
    def own_steps(self) -> int:
        return self._source.own_steps

    @property
    def generated_images(self) -> int:
        return self._source.generated_images

    @property
    def waiting(self) -> int:
        return self._source.waiting

    def stop_waiting(self) -> None:
        self._source.stop_waiting()

    @property
    def notices(self) -> list[str]:
        return self._source.notices

    @property
    def networks(self) -> list[nn.Module]:
        return self._source.networks

    @property
    def unchanging(self) -> list[Tensor]:
        return self._source.unchanging

    def draw(self, rng: np.random.Generator, progress: float) -> list[list[tuple[np.ndarray, ...]]]:
        return self._source.draw(rng, progress)

    @property
    def held_out_limit(self) -> int | None:
        return self._source.held_out_limit

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor] | None:
        return self._source.held_out(count, batch_size)

    def recall(self, state: dict[str, Any]) -> None:
        self._source.recall(state["source"])

    def learned(self, batch: Batch, answers: Tensor) -> None:
        if batch.phase == "student":
            self._source.learned(batch, answers)

    def follow(self, iteration: int) -> None:
        self._source.follow(iteration)

    def state_dict(self) -> dict[str, Any]:
        return {"source": self._source.state_dict()}

    def state_of_all(self) -> dict[str, Any]:
        return {**self.state_dict(), "source": self._source.state_of_all()}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "source": self._source.own_part(state["source"])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._source.load_state_dict(state["source"])
