"""DFAD as published, in plain PyTorch: the reference against which our step is measured and checked.

It uses float32, contiguous memory, and autograd everywhere. In the student's step the generator and the teacher build
graphs that are discarded. In the generator's step the weight gradients of teacher and student are computed but never
used. Losses are eager PyTorch, optimizers loop over their parameters, and every step waits for its loss. The activation
regularizer has its published form (AB distillation). Virtual samples are mixed and forwarded as a separate batch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast import DFADTrainer
from dfad_fast.engine.recipe import Recipe
from dfad_fast.models import DFADGenerator
from dfad_fast.models.reading.taps import Tap


@dataclass(frozen=True)
class Objective:
    """The student's terms in addition to the L1 distance of logits.

    ``boundary`` and ``virtual`` are weights; 0 leaves a term out. ``boundary`` decays linearly over a run.
    """

    boundary: float = 0.0
    virtual: float = 0.0
    margin: float = 1.0
    alpha: float = 1.0


OBJECTIVES = {
    "dfad": Objective(),
    "dfad-ar": Objective(boundary=0.1),
    "dfad-vi": Objective(virtual=1.0),
    "dfad-ar-vi": Objective(boundary=0.1, virtual=1.0),
}


def boundary_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], margin: float) -> Tensor:
    """The mean over stages of the mean over elements, computed with masks as published."""
    stages = []
    for s, t in zip(student, teacher, strict=True):
        off = ((s > -margin) & (t <= 0)).float()
        on = ((s <= margin) & (t > 0)).float()
        stages.append(((s + margin) ** 2 * off + (s - margin) ** 2 * on).mean())
    return torch.stack(stages).mean()


def mix(x: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """``lam x + (1 - lam) x[perm]``, one ``lam`` per sample."""
    lam = lam.view(-1, *[1] * (x.dim() - 1))
    return lam * x + (1 - lam) * x[perm]


class Features:
    """The inputs of the activation modules at ``taps`` in the last forward pass of ``network``, by plain hooks."""

    def __init__(self, network: nn.Module, taps: Sequence[Tap]) -> None:
        self._seen: list[Tensor | None] = [None] * len(taps)
        for position, tap in enumerate(taps):
            if not tap.is_module:
                raise ValueError(f"tap {tap}: the faithful loop reads activation modules only")
            network.get_submodule(tap.path).register_forward_pre_hook(
                lambda _, inputs, position=position: self._seen.__setitem__(position, inputs[0])
            )

    def take(self) -> list[Tensor]:
        """Returns the features and forgets them."""
        seen = [x for x in self._seen if x is not None]
        self._seen = [None] * len(self._seen)
        return seen


def optimizers(
    recipe: Recipe, student: list[nn.Parameter], generator: list[nn.Parameter]
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """The recipe's optimizers as plain loops over parameters."""
    rate, decay = recipe.student_lr, recipe.student_weight_decay
    trains_student: torch.optim.Optimizer
    if recipe.student_optimizer == "sgd":
        trains_student = torch.optim.SGD(
            student, rate, momentum=0.9, weight_decay=decay, foreach=False, fused=False
        )
    else:
        trains_student = torch.optim.Adam(student, rate, weight_decay=decay, foreach=False, fused=False)
    return trains_student, torch.optim.Adam(generator, recipe.generator_lr, foreach=False, fused=False)


class FaithfulLoop:
    """The published loop on copies of a trainer's networks, with the same random draws as the trainer.

    Create it before the trainer's first step. ``planned_iterations`` is the length of the schedules of learning rates
    and weights; None keeps them constant. ``teacher``, ``student``, ``generator`` and ``connectors`` are the copies.
    """

    def __init__(
        self,
        trainer: DFADTrainer,
        objective: Objective,
        recipe: Recipe | None = None,
        planned_iterations: int | None = None,
    ) -> None:
        networks = trainer.networks
        self.teacher, self.student, self.generator, self.connectors = (
            copy.deepcopy(module).to(memory_format=torch.contiguous_format)
            for module in (networks.teacher, networks.student, networks.generator, networks.connectors)
        )
        if isinstance(self.generator, DFADGenerator):
            self.generator.fused = False  # layer by layer, as published
        self.objective = objective
        self.recipe = recipe or trainer.distiller.recipe
        self.planned_iterations = planned_iterations
        self.iteration = 0
        self._student_steps, self._generator_steps = (
            trainer.distiller.method.student_steps,
            trainer.distiller.method.generator_steps,
        )
        self._noise_shape = trainer.batch_size, trainer.latent_dim
        # The published loop draws on the host. Here the networks' device draws, so that draws equal the trainer's.
        self._noise = torch.Generator(trainer.distiller.device).manual_seed(trainer.seed)
        self._mixing = np.random.default_rng(trainer.seed)
        self._student_optimizer, self._generator_optimizer = optimizers(
            self.recipe,
            [*self.student.parameters(), *self.connectors.parameters()],
            list(self.generator.parameters()),
        )
        if objective.boundary:
            pairs = networks.tap_pairs
            self._teacher_features = Features(self.teacher, [t for t, _ in pairs])
            self._student_features = Features(self.student, [s for _, s in pairs])

    @property
    def generated_images(self) -> int:
        """Images generated so far, in both phases."""
        return self.iteration * (self._student_steps + self._generator_steps) * self._noise_shape[0]

    def step(self) -> dict[str, float]:
        """Runs one iteration. Returns the losses of its last student and generator step under the trainer's names."""
        planned = self.planned_iterations
        progress = min(1.0, self.iteration / planned) if planned else 0.0
        factor = self.recipe.rate_factor(progress)
        for optimizer, rate in (
            (self._student_optimizer, self.recipe.student_lr),
            (self._generator_optimizer, self.recipe.generator_lr),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        self.iteration += 1
        self.teacher.eval()
        self.student.train()
        self.connectors.train()
        self.generator.train()
        losses: dict[str, float] = {}
        for _ in range(self._student_steps):
            losses |= self._student_step(progress)
        for _ in range(self._generator_steps):
            losses |= self._generator_step()
        return losses

    def _student_step(self, progress: float) -> dict[str, float]:
        images = self.generator(self._draw_noise()).detach()
        self._student_optimizer.zero_grad()
        teacher = self.teacher(images)
        student = self.student(images)
        total = F.l1_loss(student, teacher.detach())
        losses = {"student/l1": total.item()}
        if self.objective.boundary:
            boundary = self._boundary()
            total = total + self.objective.boundary * (1.0 - progress) * boundary
            losses["student/boundary"] = boundary.item()
        if self.objective.virtual:
            virtual = self._virtual(images, teacher.detach())
            total = total + self.objective.virtual * virtual
            losses["student/virtual"] = virtual.item()
        total.backward()
        self._student_optimizer.step()
        return losses

    def _generator_step(self) -> dict[str, float]:
        self._generator_optimizer.zero_grad()
        images = self.generator(self._draw_noise())
        distance = F.l1_loss(self.student(images), self.teacher(images))
        (-distance).backward()
        self._generator_optimizer.step()
        return {"generator/l1": distance.item()}

    def _boundary(self) -> Tensor:
        student = [
            connect(x)
            for connect, x in zip(self.connectors.children(), self._student_features.take(), strict=True)
        ]
        teacher = [x.detach() for x in self._teacher_features.take()]
        return boundary_loss(student, teacher, self.objective.margin)

    def _virtual(self, images: Tensor, teacher: Tensor) -> Tensor:
        lam, perm = self._draw_mixture(len(images))
        return F.l1_loss(self.student(mix(images, lam, perm)), mix(teacher, lam, perm))

    def _draw_mixture(self, batch: int) -> tuple[Tensor, Tensor]:
        lam = torch.from_numpy(self._mixing.beta(self.objective.alpha, self.objective.alpha, batch)).float()
        perm = torch.from_numpy(self._mixing.permutation(batch))
        return lam.to(self._noise.device), perm.to(self._noise.device)

    def _draw_noise(self) -> Tensor:
        return torch.randn(*self._noise_shape, generator=self._noise, device=self._noise.device)
