"""The command line's defaults for a dataset: a pair of networks and how long to train them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """Names of networks, epochs and learning rate of the teacher's training, iterations of a distillation."""

    teacher: str
    student: str
    teacher_epochs: int
    learning_rate: float
    iterations: int


DEFAULTS = {
    "digits": Defaults("resnet8-w32", "resnet8-w16", teacher_epochs=40, learning_rate=0.1, iterations=350),
    "mnist": Defaults("lenet5", "lenet5-half", teacher_epochs=10, learning_rate=0.05, iterations=2000),
    "fashion-mnist": Defaults(
        "resnet10-w16", "resnet10-w8", teacher_epochs=6, learning_rate=0.1, iterations=2000
    ),
    "cifar10": Defaults("resnet34", "resnet18", teacher_epochs=100, learning_rate=0.1, iterations=25_000),
    "cifar100": Defaults("resnet34", "resnet18", teacher_epochs=100, learning_rate=0.1, iterations=25_000),
}
