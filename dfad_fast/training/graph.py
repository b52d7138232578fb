"""A whole iteration as one CUDA graph: the host launches it at once, however many kernels it has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dfad_fast.training.networks import Draws
from dfad_fast.training.step import Iteration, Outcome, Weights

# Iterations before the capture, on a stream of their own: libraries choose their algorithms in them.
_WARM_UP = 3


class CapturedIteration:
    """Runs like ``iteration.run``: the first few times as it is, then captured, then replayed.

    What changes from one iteration to the next is copied into memory that the graph reads: the terms' random numbers
    and the rows' weights. Learning rates have to be tensors on the device, and ``noise`` is made known to the graph.
    What an iteration leaves is overwritten by the next one.
    """

    def __init__(self, iteration: Iteration, noise: torch.Generator) -> None:
        self._iteration = iteration
        self._noise = noise
        self._device = noise.device
        self._runs = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._draws: list[Draws] = []
        self._weights: dict[str, Tensor] = {}
        self._outcome: Outcome | None = None

    def forget(self) -> None:
        """Capture anew: after weights, optimisers or the source of noise were put elsewhere in memory."""
        self._runs, self._graph, self._outcome = 0, None, None

    def run(self, draws: Sequence[Draws], weights: Weights) -> Outcome:
        if self._runs == 0:
            self._draws = [[tuple(x.clone() for x in drawn) for drawn in rows] for rows in draws]
            self._weights = {
                phase: torch.zeros(len(values), device=self._device) for phase, values in weights.items()
            }
        self._fill(draws, weights)
        self._runs += 1
        if self._runs <= _WARM_UP:
            return self._warm_up()
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        assert self._outcome is not None
        self._graph.replay()
        return self._outcome

    def _fill(self, draws: Sequence[Draws], weights: Weights) -> None:
        for rows, static_rows in zip(draws, self._draws, strict=True):
            for drawn, static in zip(rows, static_rows, strict=True):
                for x, buffer in zip(drawn, static, strict=True):
                    buffer.copy_(x, non_blocking=True)
        for phase, values in weights.items():
            self._weights[phase].copy_(torch.tensor(values), non_blocking=True)

    def _step(self) -> Outcome:
        return self._iteration.run(self._draws, {phase: list(row) for phase, row in self._weights.items()})

    def _warm_up(self) -> Outcome:
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            outcome = self._step()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return outcome

    def _capture(self) -> None:
        self._iteration.drop_gradients()  # those of the capture live in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._noise)
        with torch.cuda.graph(graph):
            self._outcome = self._step()
        self._graph = graph
