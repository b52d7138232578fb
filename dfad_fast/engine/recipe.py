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
    """Optimizers and learning rates; ``generator_momentum`` is Adam's first.

    ``steps`` multiplies the rate by 0.1 after 20 % and 40 % of the run. ``generator_decays``: whether the generator's
    rate goes the way of the student's, or stays as it is.
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
        """The student's optimizer (its momentum is 0.9 where it is SGD). ``captured``: for use in a CUDA graph."""
        fused = _can_fuse(parameters)
        rate = _rate(self.student_lr, parameters, captured)
        decay = self.student_weight_decay
        if self.student_optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=fused)
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=fused, capturable=captured)

    def generator(self, parameters: list[nn.Parameter], captured: bool = False) -> torch.optim.Optimizer:
        """The generator's optimizer."""
        rate = _rate(self.generator_lr, parameters, captured)
        betas = (self.generator_momentum, 0.999)
        fused = _can_fuse(parameters)
        return torch.optim.Adam(parameters, lr=rate, betas=betas, fused=fused, capturable=captured)

    def rate_factor(self, progress: float) -> float:
        """What the learning rates are multiplied by after the fraction ``progress`` of the run."""
        if self.lr_decay == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.lr_decay == "steps":
            return 1.0 if progress < 0.2 else 0.1 if progress < 0.4 else 0.01
        return 1.0

    def generator_rate_factor(self, progress: float) -> float:
        """The same of the generator's rate."""
        return self.rate_factor(progress) if self.generator_decays else 1.0


def _model_inversion(generator_lr: float, student_lr: float = 0.2) -> Recipe:
    """What FastDFKD, NAYER and CMI have in common. The generator's rate is that of each round's steps."""
    return Recipe(
        "sgd",
        student_lr,
        student_weight_decay=1e-4,
        generator_lr=generator_lr,
        generator_momentum=0.5,
        generator_decays=False,
    )


RECIPES = {
    # Students with batch norm: SGD ended higher than Adam in short runs on digits.
    "sgd": Recipe("sgd", student_lr=0.2, student_weight_decay=5e-4),
    # Such students that start from their teacher, of which a higher rate unlearns a part. On digits (resnet8-w32 ->
    # w16, 60 iterations, seeds 0-2) 0.05 ended at 98.6 %, 0.02 at 98.3 %, 0.1 at 97.9 %; a random start, at 0.2, at
    # 96.2 %. Longer runs and other data have not been measured yet.
    "sgd-start": Recipe("sgd", student_lr=0.05, student_weight_decay=5e-4),
    # Students without: SGD diverged on a LeNet-5 pair, at a rate of 0.02 already.
    "adam": Recipe("adam", student_lr=2e-3),
    # ZSKT's (arXiv 1905.09768).
    "zskt": Recipe("adam", student_lr=2e-3, generator_lr=1e-3),
    # The generator's is DFQ's (arXiv 2005.04136); the student's is this library's.
    "dfq": Recipe("sgd", student_lr=0.1, student_weight_decay=5e-4, generator_momentum=0.5),
    # Those of FastDFKD for CIFAR-10, with 2, 5 and 10 steps a round (arXiv 2112.06253, published code).
    "fast-2": _model_inversion(5e-3),
    "fast-5": _model_inversion(3e-3),
    "fast-10": _model_inversion(2e-3),
    # NAYER's (arXiv 2310.00258) and CMI's (arXiv 2105.08584); the latter's rate goes in steps there.
    "nayer": _model_inversion(4e-3),
    "cmi": _model_inversion(1e-3, student_lr=0.1),
    # The generators' is KegNet's for Fashion-MNIST and SVHN (Yoo et al. 2019, published code); 1e-3 for MNIST.
    "kegnet": replace(_model_inversion(1e-2), generator_momentum=0.9),
    # The generator's is DeepInversion's of the images for CIFAR-10 (arXiv 1912.08795, published code).
    "inversion": replace(_model_inversion(0.1), generator_momentum=0.9),
    # DFAD's for CIFAR-10 (arXiv 1912.11006, published code): 500 epochs, x0.1 at epochs 100 and 200.
    "published": Recipe("sgd", student_lr=0.1, student_weight_decay=5e-4, lr_decay="steps"),
}


def choose_recipe(
    recipe: str | Recipe,
    student: nn.Module,
    of_method: str = "auto",
    from_teacher: bool = False,
    student_lr: float | None = None,
    generator_lr: float | None = None,
) -> Recipe:
    """The recipe by its name, with other learning rates where some are given; ``auto`` is the method's own.

    Where that is ``auto`` too: ``sgd`` for a student with batch norm layers, ``sgd-start`` where that starts
    ``from_teacher``, and ``adam`` for others.

    Raises UsageError for an unknown name.
    """
    chosen = recipe if isinstance(recipe, Recipe) else _by_name(recipe, student, of_method, from_teacher)
    if student_lr is not None:
        chosen = replace(chosen, student_lr=student_lr)
    return chosen if generator_lr is None else replace(chosen, generator_lr=generator_lr)


def _by_name(recipe: str, student: nn.Module, of_method: str, from_teacher: bool) -> Recipe:
    if recipe == "auto":
        recipe = of_method
    if recipe == "auto" and batch_norm_layers(student):
        recipe = "sgd-start" if from_teacher else "sgd"
    elif recipe == "auto":
        recipe = "adam"
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, ["auto", *RECIPES])
    return RECIPES[recipe]


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in {"cpu", "cuda"} and p.is_floating_point() for p in parameters)


def _rate(rate: float, parameters: list[nn.Parameter], captured: bool) -> float | torch.Tensor:
    """A graph reads the rate from the device's memory, so that it can change."""
    return torch.tensor(rate, device=parameters[0].device) if captured else rate
