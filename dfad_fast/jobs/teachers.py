"""Teachers trained here, cached by their training settings, so that later runs reuse them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dfad_fast.data import Dataset
from dfad_fast.data.defaults import DEFAULTS
from dfad_fast.engine.evaluation import accuracy
from dfad_fast.errors import UsageError
from dfad_fast.jobs.teacher_training import train_teacher
from dfad_fast.models import create_network, load_weights
from dfad_fast.runs.whole_files import make_folder, write_tensors, write_whole
from dfad_fast.wording import counted

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """The settings that a teacher is trained with; they identify it."""

    dataset: str
    network: str
    epochs: int
    learning_rate: float
    seed: int

    @property
    def file(self) -> str:
        """The name of the weights file."""
        return (
            f"{self.dataset}-{self.network}-{self.epochs}epochs-lr{self.learning_rate:g}-seed{self.seed}"
            ".safetensors"
        )


def training_on(
    dataset: str,
    network: str | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
) -> Training:
    """The training of a teacher for ``dataset``, with the dataset's defaults in place of None."""
    defaults = DEFAULTS[dataset]
    return Training(
        dataset,
        network or defaults.teacher,
        defaults.teacher_epochs if epochs is None else epochs,
        defaults.learning_rate if learning_rate is None else learning_rate,
        seed,
    )


@dataclass(frozen=True)
class Teacher:
    """A teacher for images of shape ``image_shape``, its weights files, and where the weights come from, in words."""

    network: nn.Module
    image_shape: tuple[int, int, int]
    weights: tuple[Path, ...] = ()
    """One file, or one per member of an ensemble; empty if a factory made the weights."""
    origin: str | None = None
    """None if the settings name the file."""


def find_or_train_teacher(
    dataset: Dataset,
    training: Training,
    folder: Path,
    device: torch.device,
    progress: Callable[[int, float], None] | None = None,
    train: bool = True,
) -> Teacher:
    """The teacher for ``training``: read from ``folder``, or trained and saved there.

    A .json beside the weights holds the training settings and the accuracy on the test images.

    Raises UsageError if there is none and ``train`` is off.
    """
    path = folder / training.file
    torch.manual_seed(training.seed)
    network = create_network(training.network, dataset.image_shape, len(dataset.classes)).to(device)
    if path.is_file():
        load_weights(network, path, "teacher")
        return Teacher(network, dataset.image_shape, (path,), f"{path} (trained before)")
    if not train:
        raise UsageError(
            f"there is no teacher {path} relative to the current folder: change to the folder that the run was started "
            "in, or name the folder of the teachers with --teachers"
        )
    _log.info(f"teacher: training {training.network} on {dataset.name}, {counted(training.epochs, 'epoch')}")
    make_folder(folder)  # before the training, so that an error comes early
    train_teacher(network, dataset, training.epochs, training.seed, training.learning_rate, progress)
    test_accuracy = accuracy(network, dataset.test_batches(256, device))
    _save(network, path, dataset, training, test_accuracy)
    origin = f"{100 * test_accuracy:.2f} % of the test images, saved as {path}"
    return Teacher(network, dataset.image_shape, (path,), origin)


def _save(network: nn.Module, path: Path, dataset: Dataset, training: Training, test_accuracy: float) -> None:
    about = {
        "dataset": dataset.name,
        "network": training.network,
        "epochs": training.epochs,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
        "test_accuracy": test_accuracy,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "image_shape": list(dataset.image_shape),
        "classes": list(dataset.classes),
    }
    write_tensors(path, network.state_dict())
    write_whole(path.with_suffix(".json"), lambda p: p.write_text(json.dumps(about, indent=2) + "\n"))
