"""MNIST and Fashion-MNIST, from their four idx files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dfad_fast.data.augment import ShiftFlip
from dfad_fast.data.checks import check_labels
from dfad_fast.data.dataset import Dataset
from dfad_fast.data.idx import read_idx
from dfad_fast.errors import UsageError

_SIZE = (28, 28)


@dataclass(frozen=True)
class _Source:
    classes: tuple[str, ...]
    mean: float
    std: float
    augment: ShiftFlip
    torchvision: str
    site: str
    system: Path | None = None
    package: str | None = None


_SOURCES = {
    "mnist": _Source(
        classes=tuple("0123456789"),
        mean=0.1307,
        std=0.3081,
        augment=ShiftFlip(shift=2),
        torchvision="MNIST",
        site="yann.lecun.com/exdb/mnist",
    ),
    "fashion-mnist": _Source(
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        mean=0.2860,
        std=0.3530,
        augment=ShiftFlip(shift=2, flip=True),
        torchvision="FashionMNIST",
        site="github.com/zalandoresearch/fashion-mnist",
        system=Path("/usr/share/datasets/fashion-mnist"),
        package="dataset-fashion-mnist",
    ),
}


def load_mnist(name: str, data_dir: Path | None) -> Dataset:
    """`mnist` or `fashion-mnist`: uint8 [N, 1, 28, 28], 10 classes.

    Looks in `data_dir/<name>`, in torchvision's `data_dir/<MNIST|FashionMNIST>/raw`, in `data_dir` itself and, for
    fashion-mnist, in the folder of Debian's package.

    Raises:
        UsageError: no folder has the files, or one of them is missing or damaged.
    """
    source = _SOURCES[name]
    places = _places(name, source, data_dir)
    folder = next((place for place in places if _find(place, "train-images-idx3-ubyte")), None)
    if folder is None:
        raise _not_found(name, source, places)
    train_images, train_labels = _read_split(folder, "train", len(source.classes))
    test_images, test_labels = _read_split(folder, "t10k", len(source.classes))
    return Dataset(
        name=name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=source.classes,
        mean=(source.mean,),
        std=(source.std,),
        augment=source.augment,
    )


def _places(name: str, source: _Source, data_dir: Path | None) -> list[Path]:
    places = []
    if data_dir is not None:
        # `data_dir` itself comes last: both datasets use the same file names, so it may hold the other one.
        places += [data_dir / name, data_dir / source.torchvision / "raw", data_dir]
    if source.system is not None:
        places.append(source.system)
    return places


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def _read_split(folder: Path, split: str, classes: int) -> tuple[Tensor, Tensor]:
    image_path, label_path = (
        _required(folder, f"{split}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
    )
    images, labels = read_idx(image_path, dims=3), read_idx(label_path, dims=1).to(torch.int64)
    if tuple(images.shape[1:]) != _SIZE:
        height, width = images.shape[1:]
        raise UsageError(f"{image_path}: expected images of 28x28 pixels, got {height}x{width}")
    check_labels(labels, len(images), classes, label_path)
    return images.unsqueeze(1), labels


def _required(folder: Path, stem: str) -> Path:
    path = _find(folder, stem)
    if path is None:
        raise UsageError(
            f"{folder}: it lacks {stem} (or {stem}.gz); put the dataset's four files into one folder"
        )
    return path


def _not_found(name: str, source: _Source, places: list[Path]) -> UsageError:
    looked = ", ".join(map(str, places)) or "no folder: none was given"
    ways = [f"apt install {source.package}"] if source.package else []
    ways.append(
        f"python -c \"import torchvision; torchvision.datasets.{source.torchvision}('DIR', download=True)\" "
        "and DIR as the data folder"
    )
    ways.append(
        f"{{train,t10k}}-images-idx3-ubyte.gz and {{train,t10k}}-labels-idx1-ubyte.gz from {source.site}"
    )
    return UsageError(f"{name} was not found (looked in: {looked}); get it by: {'; or '.join(ways)}")
