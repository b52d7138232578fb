"""What a black-box teacher answered: in memory, or in the journal with the last ones in memory too."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from dfad_fast.models.black_box.journal import Journal

_MOST = 2**26  # bytes of answers in memory beside a journal, which has them all


class KeptAnswers:
    """The answers to images, which have numbers from 0. ``journal`` has them too; None: memory alone does.

    Raises RunError where the journal cannot be read.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal
        self._places = array("q")  # of each image, where the batch with its answer stands; -1: nowhere
        self._rows = array("q")  # and which row of the batch that is
        self._batches: dict[int, np.ndarray] = {}
        self._bytes = 0
        self._width = 0

    def add_image(self) -> int:
        """The number of one more image, which has no answer yet."""
        self._places.append(-1)
        self._rows.append(0)
        return len(self._places) - 1

    def has(self, image: int) -> bool:
        return self._places[image] >= 0

    def put(self, images: Sequence[int], rows: np.ndarray, at: int | None) -> None:
        """``rows`` [N, width] are the answers to ``images``, and stand in the journal at ``at``."""
        place = len(self._batches) if at is None else at
        for row, image in enumerate(images):
            self._places[image], self._rows[image] = place, row
        self._width = rows.shape[1]
        self._hold(place, rows)

    def rows(self, images: Sequence[int]) -> np.ndarray:
        """The answers [N, width] to ``images``, all of which have one."""
        return np.stack([self._batch(self._places[image])[self._rows[image]] for image in images])

    def _batch(self, place: int) -> np.ndarray:
        if place in self._batches:
            return self._batches[place]
        assert self._journal is not None
        rows = self._journal.read_rows(place, self._width)
        self._hold(place, rows)
        return rows

    def _hold(self, place: int, rows: np.ndarray) -> None:
        self._batches[place] = rows
        self._bytes += rows.nbytes
        while self._journal and self._bytes > _MOST and len(self._batches) > 1:
            self._bytes -= self._batches.pop(next(iter(self._batches))).nbytes
