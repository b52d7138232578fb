"""The running source of a generator that restarts for each batch and takes a few steps on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.distributed import collectives, differentiable, processes
from dfad_fast.distributed.gradient_averaging import averaging_gradients
from dfad_fast.models.generators.conditional import ConditionalGenerator
from dfad_fast.models.reading.batch_norm import LayerStatistics
from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.probing import Draws, frozen
from dfad_fast.sources.labels import balanced_labels
from dfad_fast.sources.restarted.beginning import Beginning
from dfad_fast.sources.restarted.contrasting import Contrasting, contrasting_for, instance_means
from dfad_fast.sources.restarted.memory import StatisticsMemory
from dfad_fast.sources.restarted.settings import RestartedSettings
from dfad_fast.sources.restarted.views import draw_crops, draw_moves, seen_through
from dfad_fast.sources.source import Batch, Plan, Source, StepLosses, Turn, Workbench
from dfad_fast.terms import reads_contrast, weigh

_SEED = 5


@dataclass(frozen=True)
class Wanted:
    """This process's part of a round's task: noise [B, latent_dim], and the labels [B] of its images."""

    noise: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Shown:
    """How the teacher sees a step's images.

    ``wholes`` and ``crops`` are the maps of whole images and of crops [B, 2, 3]; ``former`` are features of earlier
    images for comparison. The last two are only for the contrast.
    """

    wholes: Tensor
    crops: Tensor | None = None
    former: Tensor | None = None


@dataclass(frozen=True)
class Made:
    """The result of a step, without its graph, and the whole batch's loss."""

    loss: Tensor
    images: Tensor
    features: Tensor | None
    statistics: list[LayerStatistics]

    def or_better(self, later: Made) -> Made:
        """The images with the lower loss, and the later step's statistics. Does not synchronize with the device."""
        lower = later.loss < self.loss
        features = self.features
        if features is not None and later.features is not None:
            features = torch.where(lower, later.features, features)
        images = torch.where(lower, later.images, self.images)
        return Made(torch.where(lower, later.loss, self.loss), images, features, later.statistics)


class RestartedSource(Source):
    """Each batch is a round: the generator restarts according to ``spec`` and takes its steps.

    The batch is the images of the step with the lowest loss, before they were moved or mirrored for the teacher.
    """

    def __init__(self, spec: RestartedSettings, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        self._spec = spec
        self._rng = np.random.default_rng([bench.seed, _SEED])
        trio = bench.prober.trio
        self._generator = trio.generator
        assert bench.optimizer is not None
        self._rates = bench.optimizer
        self._begin = Beginning(spec, trio.generator, self._betas, self._rng)
        self._memory = StatisticsMemory(spec.memory)
        self._contrast: Contrasting | None = None
        if reads_contrast(plan.generator):
            self._contrast = contrasting_for(trio, spec.features, spec.compared, self._rng)
        black = bench.form.normalization
        self._outside = torch.zeros(1, 1, 1, device="cpu") if black is None else -black[0] / black[1]
        self._averaged_loss = averaging_gradients(self._loss, trio.generator, *self.networks)

    @property
    def _betas(self) -> tuple[float, float]:
        betas: tuple[float, float] = self._rates.optimizer.param_groups[0]["betas"]
        return betas

    @property
    def networks(self) -> list[nn.Module]:
        return [] if self._contrast is None else [self._contrast.head]

    @property
    def own_steps(self) -> int:
        return self._plan.student_steps * self._spec.steps

    @property
    def generated_images(self) -> int:
        return self._plan.student_steps * self._bench.batch_size

    def batches(self, turn: Turn) -> Iterator[Batch]:
        for _ in range(self._plan.student_steps):
            images = self._round(turn)
            turn.generated += self._bench.batch_size
            yield self._bench.see(images, self._plan.student)

    def _round(self, turn: Turn) -> Tensor:
        self._begin()
        wanted, rate = self._want(), self._rates.rate
        groups: list[dict[str, Any]] = [{"params": list(self._generator.parameters())}]
        if self._spec.lr_noise:
            groups.append({"params": [wanted.noise], "lr": self._spec.lr_noise})
        adam = torch.optim.Adam(groups, lr=rate, betas=self._betas)
        if self._contrast is not None:
            self._contrast.lend(adam, rate)
        optimizer = self._rates.around(adam)
        made = self._step(wanted, optimizer, turn)
        for _ in range(self._spec.steps - 1):
            later = self._step(wanted, optimizer, turn)
            made = made.or_better(later) if self._spec.lowest else later
        self._begin.end(rate * self._spec.steps)
        self._memory.take(made.statistics)
        if self._contrast is not None and made.features is not None:
            self._contrast.take_back(adam)
            self._contrast.take(made.features)
        return made.images

    def _want(self) -> Wanted:
        """New labels, balanced over the whole batch, and noise for them."""
        bench, device = self._bench, self._bench.device
        own = processes.own_rows(bench.batch_size)
        drawn = balanced_labels(self._rng, bench.prober.trio.classes, bench.batch_size)
        labels = torch.from_numpy(drawn[own]).to(device)
        noise = bench.draw_noise()
        if isinstance(self._generator, ConditionalGenerator):
            places = torch.arange(bench.batch_size, device=device)[own]
            noise = self._generator.noise_for(noise, labels, places)
        return Wanted(noise.requires_grad_(self._spec.lr_noise > 0), labels)

    def _show(self) -> Shown:
        spec, bench = self._spec, self._bench
        size, (_, height, width) = bench.batch_size, bench.form.shape
        own = processes.own_rows(size)

        def on_device(maps: np.ndarray) -> Tensor:
            return torch.from_numpy(maps[own]).to(bench.device)

        wholes = on_device(draw_moves(self._rng, size, (height, width), spec.shift, spec.flip))
        if self._contrast is None:
            return Shown(wholes)
        return Shown(wholes, on_device(draw_crops(self._rng, size, spec.flip)), self._contrast.draw())

    def _step(self, wanted: Wanted, optimizer: ScaledOptimizer, turn: Turn) -> Made:
        trio, train = self._bench.prober.trio, self._plan.trains_student_norms
        trio.set_modes(student=train)
        if not (train or trio.sync_batch_norm):
            # Each process saw its own part of the batches, but the student must be the same in all.
            collectives.copy_buffers_from_first(trio.student, *trio.beside_student)
        draws = next(turn.draws)
        with frozen(trio.teacher, trio.student, *trio.beside_student):
            total, losses, made = self._averaged_loss(
                wanted, self._show(), draws, turn.weights, turn.progress
            )
            optimizer.descend(total, partial(self._look_at_gradients, wanted.noise))
        turn.losses.append(losses)
        return replace(made, loss=differentiable.mean(made.loss))

    def _look_at_gradients(self, noise: Tensor) -> None:
        if noise.grad is not None:
            # Like the generator's gradients, those of each process's noise are averaged over the processes.
            noise.grad.div_(processes.count())
            if isinstance(self._generator, ConditionalGenerator):
                noise.grad[:, : self._generator.told] = 0.0  # the values that choose the label do not change
        self._begin.note()

    def _loss(
        self,
        wanted: Wanted,
        shown: Shown,
        draws: Draws,
        weights: Sequence[float | Tensor],
        progress: float,
    ) -> tuple[Tensor, StepLosses, Made]:
        """The weighted sum, the single terms, and the step's result."""
        prober, rows = self._bench.prober, self._plan.generator
        made = prober.generate(wanted.noise)
        kind = wanted.noise.dtype  # networks in half precision accept only that
        images = seen_through(shown.wholes, made, self._outside).to(kind)
        view = prober.look(images, rows, graph=True)
        features = contrast = None
        if self._contrast is not None and shown.crops is not None:
            cut_out = seen_through(shown.crops, made, self._outside).to(kind)
            crops = prober.look(cut_out, rows, graph=True)
            both = [instance_means(seen.statistics) for seen in (crops, view)]
            features = torch.cat(both, dim=1).detach()
            contrast = self._contrast.embed(both[0], both[1], shown.former)
        view = replace(view, statistics=self._memory.blended(view.statistics))
        probes = prober.probe(images, view, rows, draws, progress, wanted.labels, contrast)
        with prober.mixed_precision():
            total, losses = weigh(rows, probes, weights, "generator")
        statistics = view.detached(view.ask).statistics
        return total, losses, Made(total.detach(), made.detach(), features, statistics)

    def state_dict(self) -> dict[str, Any]:
        return {
            "rng": self._rng.bit_generator.state,
            "beginning": self._begin.state_dict(),
            "memory": self._memory.state_dict(),
            "contrast": None if self._contrast is None else self._contrast.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._begin.load_state_dict(state["beginning"])
        self._memory.load_state_dict(state["memory"], self._bench.device)
        if self._contrast is not None:
            self._contrast.load_state_dict(state["contrast"])
