"""A whole iteration as one CUDA graph: a single launch from the host, however many kernels it has."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from dfad_fast.engine.iteration import Iteration, Result, Weights
from dfad_fast.errors import RunError, in_one_line
from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.probing import Draws

# Iterations before the capture, on a separate stream, in which libraries choose their algorithms.
_WARM_UP = 3
ITERATIONS_UNTIL_CAPTURED = _WARM_UP + 1


class CapturedIteration:
    """Runs like ``iteration.run``: eagerly the first few times, then captured, then replayed.

    What changes between iterations, the terms' random numbers and the rows' weights, is copied into memory that the
    graph reads. Learning rates have to be tensors on the device, and ``noise`` is registered with the graph. Each
    iteration overwrites the result of the previous one. Python code in a network, such as a hook or a branch on the
    host, runs for the last time during the capture.
    """

    def __init__(
        self, iteration: Iteration, noise: torch.Generator, optimizers: Sequence[ScaledOptimizer]
    ) -> None:
        self._iteration = iteration
        self._optimizers = optimizers
        self._noise = noise
        self._device = noise.device
        self._stream = torch.cuda.Stream(noise.device)
        self._runs = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._draws: list[Draws] = []
        self._weights: dict[str, Tensor] = {}
        self._result: Result | None = None

    def forget(self) -> None:
        """Discards the capture, after weights, optimizers or the source of noise moved in memory."""
        self._runs, self._graph, self._result = 0, None, None

    def run(self, draws: Sequence[Draws], weights: Weights, progress: float = 0.0) -> Result:
        """``progress`` is ignored: iterations that depend on it are never captured."""
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
        assert self._result is not None
        self._graph.replay()
        return self._result

    def _fill(self, draws: Sequence[Draws], weights: Weights) -> None:
        for rows, static_rows in zip(draws, self._draws, strict=True):
            for drawn, static in zip(rows, static_rows, strict=True):
                for x, buffer in zip(drawn, static, strict=True):
                    buffer.copy_(x, non_blocking=True)
        for phase, values in weights.items():
            self._weights[phase].copy_(torch.tensor(values, device="cpu"), non_blocking=True)

    def _step(self) -> Result:
        return self._iteration.run(self._draws, {phase: list(row) for phase, row in self._weights.items()})

    def _warm_up(self) -> Result:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # Adam warns that it is capturable but runs outside of a graph.
            warnings.filterwarnings("ignore", message=".*capturable=True.*")
            result = self._step()
        current.wait_stream(self._stream)
        return result

    def _capture(self) -> None:
        for optimizer in self._optimizers:  # the capture's gradients live in the graph's own memory
            optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._noise)
        try:
            with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=self._stream):
                self._result = self._step()
        except RuntimeError as error:
            reason = in_one_line(error)
            raise RunError(
                f"an iteration cannot be captured as a CUDA graph ({reason}): networks must not wait for the device, "
                "such as by .item(); run without the graph, --lever graph=off (in Python, Levers(graph=False))"
            ) from error
        self._graph = graph
