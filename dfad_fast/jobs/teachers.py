"""Teachers trained here, kept by what they were trained with, so that the next run takes them as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from dfad_fast.data import Dataset
from dfad_fast.engine.evaluation import accuracy
from dfad_fast.errors import UsageError
from dfad_fast.jobs.teacher_training import train_teacher
from dfad_fast.models import create_network, load_weights
from dfad_fast.runs.whole_files import make_folder, write_tensors, write_whole
from dfad_fast.wording import counted


def teacher_file(
    folder: Path, dataset: str, network: str, epochs: int, learning_rate: float, seed: int
) -> Path:
    """The weights of the teacher of these settings."""
    return folder / f"{dataset}-{network}-{epochs}epochs-lr{learning_rate:g}-seed{seed}.safetensors"


def teacher_for(
    dataset: Dataset,
    network: str,
    epochs: int,
    learning_rate: float,
    seed: int,
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
    progress: Callable[[int, float], None] | None = None,
    train: bool = True,
) -> tuple[nn.Module, Path]:
    """The teacher of these settings and its weights file: read from ``folder``, or trained and saved there.

    Beside the weights stands a .json with the settings and the accuracy on the test images.

    Raises UsageError where there is none and ``train`` is off.
    """
    path = teacher_file(folder, dataset.name, network, epochs, learning_rate, seed)
    torch.manual_seed(seed)
    teacher = create_network(network, dataset.image_shape, len(dataset.classes)).to(device)
    if path.is_file():
        load_weights(teacher, path, "teacher")
        say(f"teacher: {path} (trained before)")
        return teacher, path
    if not train:
        raise UsageError(
            f"there is no teacher {path}, from where you are: go to the folder that the run was started in, or name "
            "the folder of the teachers with --teachers"
        )
    say(f"teacher: training {network} on {dataset.name}, {counted(epochs, 'epoch')}")
    make_folder(folder)  # before training in vain
    train_teacher(teacher, dataset, epochs, seed, learning_rate, progress)
    test_accuracy = accuracy(teacher, dataset.test_batches(256, device))
    about = {
        "dataset": dataset.name,
        "network": network,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "test_accuracy": test_accuracy,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "image_shape": list(dataset.image_shape),
        "classes": list(dataset.classes),
    }
    write_tensors(path, teacher.state_dict())
    write_whole(path.with_suffix(".json"), lambda p: p.write_text(json.dumps(about, indent=2) + "\n"))
    say(f"teacher: {100 * test_accuracy:.2f} % of the test images, saved as {path}")
    return teacher, path
