"""What the teacher says to a batch of images. It travels with the images, so that nobody asks twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from dfad_fast.models.reading.batch_norm import LayerStatistics


@dataclass(frozen=True)
class TeacherView:
    """Logits [B, classes], and the features and statistics that the terms of the phase ask for.

    ``ask`` gives the logits of further images, with or without a graph as in this view.
    """

    logits: Tensor
    ask: Callable[[Tensor], Tensor]
    features: list[Tensor]
    last_stage: Tensor | None
    statistics: list[LayerStatistics]

    def detached(self, ask: Callable[[Tensor], Tensor]) -> TeacherView:
        """The same without a graph, with ``ask`` for further questions."""
        statistics = [
            replace(layer, mean=layer.mean.detach(), variance=layer.variance.detach())
            for layer in self.statistics
        ]
        return TeacherView(
            self.logits.detach(),
            ask,
            [x.detach() for x in self.features],
            None if self.last_stage is None else self.last_stage.detach(),
            statistics,
        )
