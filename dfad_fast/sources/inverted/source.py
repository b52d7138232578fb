"""Images that are optimized themselves, at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dfad_fast.distributed import collectives, differentiable, processes
from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.models.reading.check import image_dtype, noise_images
from dfad_fast.networks.probing import Draws, frozen
from dfad_fast.sources.inverted.jitter import Jitter, draw_jitter
from dfad_fast.sources.inverted.settings import InvertedSettings
from dfad_fast.sources.labels import balanced_labels
from dfad_fast.sources.procedural.fitted import FittedStock
from dfad_fast.sources.source import Batch, Plan, Source, StepLosses, Turn, Workbench
from dfad_fast.terms import reads_attention, weigh

_SEED = 6


@dataclass(frozen=True)
class Met:
    """The images that a step began with, and the whole batch's loss there."""

    loss: Tensor
    images: Tensor

    def or_better(self, later: Met) -> Met:
        """Those of the lower loss, or of the later one where the first is NaN. Waits for no device."""
        lower = (later.loss < self.loss) | self.loss.isnan()
        return Met(torch.where(lower, later.loss, self.loss), torch.where(lower, later.images, self.images))


class InvertedSource(Source):
    """Each batch is a round: noise or drawings, which take the steps of ``spec``.

    Each of several processes has its own rows of it.
    """

    def __init__(self, spec: InvertedSettings, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        self._spec = spec
        self._rng = np.random.default_rng([bench.seed, _SEED])
        self._dtype = image_dtype(bench.prober.trio.student)
        self._stock = FittedStock(bench, "all", "auto", row=23) if spec.start == "procedural" else None
        self._apart: Tensor | None = None
        """The images that no step sees, of all processes."""
        if spec.half:
            _refuse_half(bench, plan)

    @property
    def _rounds(self) -> int:
        return self._plan.student_steps + (self._apart is None)

    @property
    def notices(self) -> list[str]:
        return [] if self._stock is None else [f"inverted images start from {self._stock.notice}"]

    @property
    def own_steps(self) -> int:
        return self._rounds * self._spec.steps

    @property
    def generated_images(self) -> int:
        return self._plan.student_steps * self._bench.batch_size

    def batches(self, turn: Turn) -> Iterator[Batch]:
        if self._apart is None:
            self._apart = differentiable.gather(self._round(turn))
        for _ in range(self._plan.student_steps):
            yield self._bench.see(self._round(turn), self._plan.student)

    def _round(self, turn: Turn) -> Tensor:
        spec, bench = self._spec, self._bench
        turn.generated += bench.batch_size
        # A copy: the steps must not change the stock, and a checkpoint must not hold all of it.
        images = self._first(bench.batch_size)[processes.own_rows(bench.batch_size)].clone().to(bench.device)
        if spec.half:
            # Steps at half resolution move 2 x 2 pixels alike: what these were drawn with apart would stay, as noise.
            images = F.interpolate(F.avg_pool2d(images, 2), images.shape[2:])
        images.requires_grad_()
        drawn = balanced_labels(self._rng, bench.prober.trio.classes, bench.batch_size)
        labels = torch.from_numpy(drawn[processes.own_rows(bench.batch_size)]).to(bench.device)
        if spec.half:
            self._descend(images, labels, turn, spec.half, smaller=2)
        return self._descend(images, labels, turn, spec.steps - spec.half, smaller=1)

    def _first(self, count: int) -> Tensor:
        """What a round begins with."""
        return self._noise(self._rng, count) if self._stock is None else self._wide(self._stock.take(count))

    def _noise(self, rng: np.random.Generator, count: int) -> Tensor:
        dtype = np.float64 if self._dtype == torch.float64 else np.float32
        return torch.from_numpy(rng.standard_normal((count, *self._bench.form.shape), dtype))

    def _wide(self, images: Tensor) -> Tensor:
        return images.to(torch.promote_types(self._dtype, torch.float32))

    def _descend(self, images: Tensor, labels: Tensor, turn: Turn, steps: int, smaller: int) -> Tensor:
        """``steps`` steps on ``images``, shown ``smaller`` times smaller; those that it comes to."""
        assert self._bench.optimizer is not None
        rates, spec = self._bench.optimizer, self._spec
        betas = rates.optimizer.param_groups[0]["betas"]
        optimizer = rates.around(torch.optim.Adam([images], lr=rates.rate, betas=betas), each_own=True)
        _, height, width = self._bench.form.shape
        best: Met | None = None
        for _ in range(steps):
            jitter = draw_jitter(self._rng, (height // smaller, width // smaller), spec.shift, spec.flip)
            before = images.detach().clone()
            self._set_modes()
            trio = self._bench.prober.trio
            with frozen(trio.teacher, trio.student, *trio.beside_student):
                total, losses = self._loss(images, labels, smaller, jitter, next(turn.draws), turn)
                optimizer.descend(total, lambda: _average(images))
            turn.losses.append(losses)
            met = Met(differentiable.mean(total.detach()), before)
            best = met if best is None else best.or_better(met)
        assert best is not None
        return (best.images if spec.lowest else images.detach()).to(self._dtype)

    def _set_modes(self) -> None:
        trio = self._bench.prober.trio
        trio.set_modes(student=self._plan.trains_student_norms)
        if not trio.sync_batch_norm:
            # Each process's student has followed its own part of the batches, and is to be the same in all.
            collectives.copy_buffers_from_first(trio.student, *trio.beside_student)

    def _loss(
        self, images: Tensor, labels: Tensor, smaller: int, jitter: Jitter, draws: Draws, turn: Turn
    ) -> tuple[Tensor, StepLosses]:
        prober, rows = self._bench.prober, self._plan.generator
        shown = jitter(F.avg_pool2d(images, smaller) if smaller > 1 else images).to(self._dtype)
        view = prober.look(shown, rows, graph=True)
        probes = prober.probe(shown, view, rows, draws, turn.progress, labels)
        weights: Sequence[float | Tensor] = turn.weights
        with prober.mixed_precision():
            return weigh(rows, probes, weights, "generator")

    @property
    def held_out_limit(self) -> int | None:
        return self._bench.batch_size if self._apart is None else len(self._apart)

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor]:
        apart = self._apart
        if apart is None:
            rng, size = np.random.default_rng([self._bench.seed, _SEED, 1]), self._bench.batch_size
            apart = self._noise(rng, size) if self._stock is None else self._stock.draw(rng, size)
        places = torch.arange(count, device="cpu") % len(apart)
        return (apart[part].to(self._bench.device, self._dtype) for part in places.split(batch_size))

    def recall(self, state: dict[str, Any]) -> None:
        self._apart = None if state["apart"] is None else state["apart"].to(self._bench.device)

    def state_dict(self) -> dict[str, Any]:
        drawings = {} if self._stock is None else {"stock": self._stock.state_dict()}
        return {"rng": self._rng.bit_generator.state, "apart": self._apart, **drawings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        if self._stock is not None:
            self._stock.load_state_dict(state["stock"])
        self.recall(state)

    @property
    def unchanging(self) -> list[Tensor]:
        return [] if self._apart is None else [self._apart]


def _average(images: Tensor) -> None:
    """The loss is a mean over the processes, and each has images of its own."""
    if images.grad is not None:
        images.grad.div_(processes.count())


@torch.no_grad()
def _refuse_half(bench: Workbench, plan: Plan) -> None:
    """Raises UsageError for a teacher that takes no images of half the size, and for terms that read its patches."""
    if reads_attention(plan.generator):
        raise UsageError(
            "inverted: half shows the teacher smaller images, whose patches are fewer than the generator's terms read: "
            "leave half out"
        )
    channels, height, width = bench.form.shape
    teacher = bench.prober.trio.teacher.eval()
    try:
        teacher(noise_images(teacher, (channels, height // 2, width // 2), 2))
    except Exception as error:
        raise UsageError(
            f"inverted: half shows the teacher images of {height // 2} x {width // 2}, and it takes none of that size "
            f"({in_one_line(error)}): leave half out"
        ) from error
