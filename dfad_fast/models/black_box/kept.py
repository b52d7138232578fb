"""A black-box teacher's answers, in memory, or in the journal with the latest ones also in memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from dfad_fast.models.black_box.journal import Journal

_MOST = 2**26  # bytes of answers in memory if a journal holds all of them


class KeptAnswers:
    """The answers to images, which are numbered from 0. Without a ``journal`` all answers stay in memory.

    Raises RunError if the journal cannot be read.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal
        self._places = array("q")  # for each image, the position of its answer's batch; -1 without an answer
        self._rows = array("q")  # for each image, the row in that batch
        self._batches: dict[int, np.ndarray] = {}
        self._bytes = 0
        self._width = 0

    def add_image(self) -> int:
        """Adds an image without an answer, and returns its number."""
        self._places.append(-1)
        self._rows.append(0)
        return len(self._places) - 1

    def has(self, image: int) -> bool:
        """Whether there is an answer to the image with that number."""
        return self._places[image] >= 0

    def put(self, images: Sequence[int], rows: np.ndarray, at: int | None) -> None:
        """Stores the answers ``rows`` [N, width] to ``images``; ``at`` is their position in the journal."""
        place = len(self._batches) if at is None else at
        for row, image in enumerate(images):
            self._places[image], self._rows[image] = place, row
        self._width = rows.shape[1]
        self._hold(place, rows)

    def rows(self, images: Sequence[int]) -> np.ndarray:
        """The answers [N, width] to ``images``, all of which must have one."""
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
