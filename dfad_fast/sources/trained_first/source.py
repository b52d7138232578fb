"""Generators that are trained first, at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dfad_fast.distributed.gradient_averaging import averaging_gradients
from dfad_fast.models.generators.decoded import DecodedGenerators
from dfad_fast.networks.probing import Draws
from dfad_fast.sources.generator_step import take_generator_step
from dfad_fast.sources.source import Batch, Plan, Source, StepLosses, Turn, Workbench
from dfad_fast.sources.trained_first.settings import TrainedFirstSettings
from dfad_fast.terms import weigh


class TrainedFirstSource(Source):
    """Trains ``generators`` and their decoders with one optimizer, which is that of the run's generator.

    A step takes one step of each generator in turn. The others have no gradient then, and stay as they are.
    """

    def __init__(
        self, spec: TrainedFirstSettings, generators: DecodedGenerators, bench: Workbench, plan: Plan
    ) -> None:
        super().__init__(bench, plan)
        self._spec, self._generators = spec, generators
        self._taken = 0
        """Steps that each generator has taken."""
        if plan.generator_steps:  # a run that is over has none
            self._losses = [
                averaging_gradients(partial(self._loss, member), generators.members[member], decoder)
                for member, decoder in enumerate(generators.decoders)
            ]

    @property
    def _steps(self) -> int:
        """Those of each generator in this iteration."""
        return min(self._plan.generator_steps, self._spec.steps - self._taken)

    @property
    def own_steps(self) -> int:
        return self._steps * self._spec.generators

    @property
    def waiting(self) -> int:
        left = self._spec.steps - self._taken
        return -(-left // self._plan.generator_steps) if left else 0

    def stop_waiting(self) -> None:
        self._taken = self._spec.steps

    def batches(self, turn: Turn) -> Iterator[Batch]:
        if steps := self._steps:
            for _ in range(steps):
                self._train(turn)
            return
        for _ in range(self._plan.student_steps):
            yield self._bench.see(self._sample(turn), self._plan.student)

    def _train(self, turn: Turn) -> None:
        bench = self._bench
        for averaged_loss in self._losses:
            noise = bench.draw_noise()
            turn.generated += bench.batch_size
            loss = partial(averaged_loss, noise, next(turn.draws), turn.weights, turn.progress)
            losses, _ = take_generator_step(bench, self._plan, loss)
            turn.losses.append(losses)
        self._taken += 1

    def _loss(
        self, member: int, noise: Tensor, draws: Draws, weights: Sequence[float | Tensor], progress: float
    ) -> tuple[Tensor, StepLosses, None]:
        """The weighted sum of generator ``member``, and each term."""
        prober, rows, generators = self._bench.prober, self._plan.generator, self._generators
        images = prober.generate(noise, by=partial(generators.make, member))
        view = prober.look(images, rows, graph=True)
        with prober.mixed_precision():
            decoded = generators.read_back(noise), generators.decoders[member](images)
        labels = generators.labels_of(noise)
        probes = prober.probe(images, view, rows, draws, progress, labels, decoded=decoded)
        with prober.mixed_precision():
            total, losses = weigh(rows, probes, weights, "generator")
        return total, losses, None

    @torch.no_grad()
    def _sample(self, turn: Turn) -> Tensor:
        self._bench.prober.trio.set_modes(student=True)
        turn.generated += self._bench.batch_size
        return self._bench.prober.generate(self._bench.draw_noise())

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._taken = state["taken"]
