"""An adversarial generator against a teacher through which no gradient flows: it is estimated from answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfad_fast.distributed import processes
from dfad_fast.errors import UsageError
from dfad_fast.networks.probing import Draws, TeacherView
from dfad_fast.precision import at_least_float32
from dfad_fast.sources.adversarial import AdversarialGenerator
from dfad_fast.sources.source import Batch, Plan, Source, StepLosses, Turn, Workbench
from dfad_fast.sources.spec import SourceSpec
from dfad_fast.terms import Probe, weigh


@dataclass(frozen=True)
class Estimated(SourceSpec):
    r"""The generator's steps, and then a batch of its own for each of the student's. The teacher gives no gradient.

    The gradient of the generator's loss L with respect to an image x of d numbers is estimated by forward differences,

    .. math:: \frac{1}{m} \sum_{i=1}^{m} d \, \frac{L(x + \epsilon u_i) - L(x)}{\epsilon} \, u_i,

    with m random directions u_i of length 1 (``directions``; MAZE, Kariyappa et al. 2021, arXiv 2005.03161, section
    4.2; DFME, Truong et al. 2021, arXiv 2011.14779, section 3.2), and goes on through the generator. A generator's step
    takes (m + 1) queries an image. All networks compute it in float32, whatever the levers say: differences of narrower
    numbers are their rounding. ``exact_student``: the student's answers are left as they are in the differences, and
    the gradient through the student is the exact one; its variance is then lower.

    Raises UsageError for fewer than 1 direction, or ``epsilon`` that is not positive.
    """

    directions: int = 1
    epsilon: float = 1e-3
    exact_student: bool = True
    name: ClassVar[str] = "estimated"
    trains_generator: ClassVar[bool] = True
    needs_generator_step: ClassVar[bool] = True
    tells_images_apart: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.directions < 1:
            raise UsageError(f"estimated: directions must be at least 1, got {self.directions}")
        if not self.epsilon > 0:
            raise UsageError(f"estimated: epsilon must be > 0, got {self.epsilon}")

    def make(self, bench: Workbench, plan: Plan) -> Source:
        return EstimatedSource(self, bench, plan)


class EstimatedSource(AdversarialGenerator):
    """Its directions come from a generator of its own, on the host."""

    def __init__(self, spec: Estimated, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        self._spec = spec
        self._directions = torch.Generator().manual_seed(bench.seed)

    @property
    def generated_images(self) -> int:
        return self._plan.student_steps * self._bench.batch_size + super().generated_images

    @property
    def notices(self) -> list[str]:
        if (narrower := self._bench.prober.narrower) is None:
            return []
        kind = str(narrower).removeprefix("torch.")
        return [
            f"the generator's steps run in float32: in {kind} the differences of its estimate are rounding errors"
        ]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        self._update(turn)
        for _ in range(self._plan.student_steps):
            yield self._see(self._sample(turn)[0])

    def _step(self, noise: Tensor, draws: Draws, turn: Turn, for_student: bool) -> tuple[StepLosses, Batch]:
        with self._bench.prober.in_float32():
            return super()._step(noise, draws, turn, for_student)

    def _loss(
        self,
        noise: Tensor,
        draws: Draws,
        weights: Sequence[float | Tensor],
        progress: float,
        for_student: bool,
    ) -> tuple[Tensor, StepLosses, Batch]:
        """A sum whose gradient is the estimated one, the terms as they are, and the batch."""
        prober, rows = self._bench.prober, self._plan.generator
        images = prober.generate(noise)
        view = prober.look(images.detach(), rows, graph=False)
        shown = images if self._spec.exact_student else images.detach()
        labels = prober.trio.labels_of(noise)
        with torch.set_grad_enabled(self._spec.exact_student):
            probes = prober.probe(shown, view, rows, draws, progress, labels)
            total, losses = weigh(rows, probes, weights, "generator")
        gradient = self._estimate(images.detach(), view, probes, draws, weights, progress)
        pull = (images * gradient).sum()
        # Its value is the loss, and its gradient that of both parts.
        return total + pull - pull.detach(), losses, Batch(images.detach(), view)

    @torch.no_grad()
    def _estimate(
        self,
        images: Tensor,
        view: TeacherView,
        probes: Sequence[Probe],
        draws: Draws,
        weights: Sequence[float | Tensor],
        progress: float,
    ) -> Tensor:
        """The part of the gradient [B, C, H, W] of the mean over images that forward differences give."""
        spec, rows = self._spec, self._plan.generator
        start = at_least_float32(images)
        before = self._per_image(probes, weights)
        total = torch.zeros_like(start)
        for _ in range(spec.directions):
            direction = self._draw_directions(start)
            moved = start + spec.epsilon * direction
            answers = view.ask(moved)
            if spec.exact_student:
                after = [replace(probe, teacher=answers) for probe in probes]
            else:
                shown = moved.to(images.dtype)
                after = self._bench.prober.probe(shown, replace(view, logits=answers), rows, draws, progress)
            slope = (self._per_image(after, weights) - before) / spec.epsilon
            total += slope.view(-1, 1, 1, 1) * direction
        numbers = start[0].numel()
        return total * (numbers / (spec.directions * len(start)))

    def _per_image(self, probes: Sequence[Probe], weights: Sequence[float | Tensor]) -> Tensor:
        rows = self._plan.generator
        return torch.stack(
            [weight * row.term.of_each_image(p) for row, p, weight in zip(rows, probes, weights, strict=True)]
        ).sum(0)

    def _draw_directions(self, like: Tensor) -> Tensor:
        """One of length 1 for each of this process's images."""
        whole = self._bench.batch_size
        drawn = torch.randn(whole, *like.shape[1:], generator=self._directions, device="cpu")
        own = drawn[processes.own_rows(whole)].to(like)
        return own / own.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"directions": self._directions.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._directions.set_state(state["directions"].cpu())
