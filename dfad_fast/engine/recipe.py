"""How student and generator are optimized: recipes by name, and the learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from dfad_fast.errors import unknown_name
from dfad_fast.models.reading.batch_norm import batch_norm_layers
from dfad_fast.settings import RATE

OptimizerName = Literal["adam", "sgd"]
RateDecay = Literal["constant", "cosine", "steps"]


@dataclass(frozen=True)
class Recipe:
    """Optimizers and learning rates; ``generator_momentum`` is the first beta of Adam.

    ``steps`` multiplies the rate by 0.1 after 20 % and 40 % of the run. ``generator_decays``: whether the generator's
    rate decays like the student's or stays constant.
    """

    student_optimizer: OptimizerName = "adam"
    student_lr: float = 2e-3
    student_weight_decay: float = 0.0
    generator_lr: float = 1e-3
    generator_momentum: float = 0.9
    lr_decay: RateDecay = "cosine"
    generator_decays: bool = True

    def __post_init__(self) -> None:
        RATE.refuse("student_lr", self.student_lr)
        RATE.refuse("generator_lr", self.generator_lr)

    def student(self, parameters: list[nn.Parameter], captured: bool = False) -> torch.optim.Optimizer:
        """The student's optimizer (momentum 0.9 for SGD). ``captured``: for use in a CUDA graph."""
        fused = can_fuse(parameters)
        rate = _rate(self.student_lr, parameters, captured)
        decay = self.student_weight_decay
        if self.student_optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=fused)
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=fused, capturable=captured)

    def generator(self, parameters: list[nn.Parameter], captured: bool = False) -> torch.optim.Optimizer:
        """The generator's optimizer."""
        rate = _rate(self.generator_lr, parameters, captured)
        betas = (self.generator_momentum, 0.999)
        fused = can_fuse(parameters)
        return torch.optim.Adam(parameters, lr=rate, betas=betas, fused=fused, capturable=captured)

    def rate_factor(self, progress: float) -> float:
        """The factor of the learning rates after the fraction ``progress`` of the run."""
        if self.lr_decay == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.lr_decay == "steps":
            return 1.0 if progress < 0.2 else 0.1 if progress < 0.4 else 0.01
        return 1.0

    def generator_rate_factor(self, progress: float) -> float:
        """The same for the generator's rate."""
        return self.rate_factor(progress) if self.generator_decays else 1.0


def _model_inversion(generator_lr: float, student_lr: float = 0.2) -> Recipe:
    """What FastDFKD, NAYER and CMI have in common. The generator's rate applies to the steps of each round."""
    return Recipe(
        "sgd",
        student_lr,
        student_weight_decay=1e-4,
        generator_lr=generator_lr,
        generator_momentum=0.5,
        generator_decays=False,
    )


RECIPES = {
    # Students with batch norm: in short runs on digits, SGD reached a higher accuracy than Adam.
    "sgd": Recipe("sgd", student_lr=0.2, student_weight_decay=5e-4),
    # The same students started from their teacher: a higher rate makes them forget part of it. On digits
    # (resnet8-w32 -> w16, 60 iterations, seeds 0-2) 0.05 reached 98.6 %, 0.02 98.3 %, 0.1 97.9 %; a random start at
    # 0.2 reached 96.2 %. Longer runs and other data have not been measured yet.
    "sgd-start": Recipe("sgd", student_lr=0.05, student_weight_decay=5e-4),
    # Students with batch norm on drawn images, in runs of a few minutes. On Fashion-MNIST (resnet10-w16 -> w8, random
    # weights, 819 iterations of 5 batches of 64, seed 0) 0.4 reached 87.3 %, 0.2 85.9 and 86.6 % (two runs that round
    # differently), 0.8 86.3 %, 0.1 84.1 %.
    "sgd-drawn": Recipe("sgd", student_lr=0.4, student_weight_decay=5e-4),
    # Students without batch norm: SGD diverged on a LeNet-5 pair even at a rate of 0.02.
    "adam": Recipe("adam", student_lr=2e-3),
    # From ZSKT (arXiv 1905.09768).
    "zskt": Recipe("adam", student_lr=2e-3, generator_lr=1e-3),
    # The generator's optimizer is from DFQ (arXiv 2005.04136), the student's is this library's.
    "dfq": Recipe("sgd", student_lr=0.1, student_weight_decay=5e-4, generator_momentum=0.5),
    # From FastDFKD for CIFAR-10, with 2, 5 and 10 steps per round (arXiv 2112.06253, published code).
    "fast-2": _model_inversion(5e-3),
    "fast-5": _model_inversion(3e-3),
    "fast-10": _model_inversion(2e-3),
    # From NAYER (arXiv 2310.00258) and CMI (arXiv 2105.08584); CMI's published rate decays in steps.
    "nayer": _model_inversion(4e-3),
    "cmi": _model_inversion(1e-3, student_lr=0.1),
    # The generators' optimizer is KegNet's for Fashion-MNIST and SVHN (Yoo et al. 2019, published code); its rate for
    # MNIST is 1e-3.
    "kegnet": replace(_model_inversion(1e-2), generator_momentum=0.9),
    # The generator's optimizer is DeepInversion's for images on CIFAR-10 (arXiv 1912.08795, published code).
    "inversion": replace(_model_inversion(0.1), generator_momentum=0.9),
    # The same for images, with this library's optimizer of students without batch norm.
    "adam-inversion": Recipe("adam", student_lr=2e-3, generator_lr=0.1, generator_decays=False),
    # From DFAD for CIFAR-10 (arXiv 1912.11006, published code): 500 epochs, x0.1 at epochs 100 and 200.
    "published": Recipe("sgd", student_lr=0.1, student_weight_decay=5e-4, lr_decay="steps"),
}

_FOR_RANDOM_WEIGHTS = ("sgd", "sgd-drawn")
"""Chosen here for students with batch norm layers that start from random weights."""


def choose_recipe(
    recipe: str | Recipe,
    student: nn.Module,
    of_method: str = "auto",
    from_teacher: bool = False,
    student_lr: float | None = None,
    generator_lr: float | None = None,
) -> Recipe:
    """The recipe by its name, with learning rates replaced if given; ``auto`` is the method's own.

    If that is ``auto`` too, it is ``sgd``. In place of an ``auto`` recipe ``sgd`` or ``sgd-drawn``, a student with
    batch norm layers that starts ``from_teacher`` gets ``sgd-start``, and a student without such layers gets ``adam``.

    Raises UsageError for an unknown name.
    """
    chosen = recipe if isinstance(recipe, Recipe) else _by_name(recipe, student, of_method, from_teacher)
    if student_lr is not None:
        chosen = replace(chosen, student_lr=student_lr)
    return chosen if generator_lr is None else replace(chosen, generator_lr=generator_lr)


def _by_name(recipe: str, student: nn.Module, of_method: str, from_teacher: bool) -> Recipe:
    if recipe == "auto":
        recipe = "sgd" if of_method == "auto" else of_method
        if recipe in _FOR_RANDOM_WEIGHTS and not batch_norm_layers(student):
            recipe = "adam"
        elif recipe in _FOR_RANDOM_WEIGHTS and from_teacher:
            recipe = "sgd-start"
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, ["auto", *RECIPES])
    return RECIPES[recipe]


def can_fuse(parameters: list[nn.Parameter]) -> bool:
    """Whether torch has an optimizer of one kernel for them, which also reads nothing back from the device."""
    return all(p.device.type in {"cpu", "cuda"} and p.is_floating_point() for p in parameters)


def _rate(rate: float, parameters: list[nn.Parameter], captured: bool) -> float | torch.Tensor:
    """A graph reads the rate from the device's memory, so that it can change."""
    return torch.tensor(rate, device=parameters[0].device) if captured else rate
