"""Datasets to train a teacher and to evaluate with. Distillation itself never reads them.

Every dataset fits in memory as uint8 tensors, so there are no loader workers and nothing is written to disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dfad_fast.data.augment import ShiftFlip
from dfad_fast.data.cifar import load_cifar
from dfad_fast.data.dataset import Augment, Dataset
from dfad_fast.data.digits import load_digits
from dfad_fast.data.mnist import load_mnist
from dfad_fast.errors import UsageError, unknown_name

__all__ = ["Augment", "Dataset", "ShiftFlip", "dataset_names", "load_dataset"]

_LOADERS: dict[str, Callable[[Path | None], Dataset]] = {
    # Bundled with scikit-learn, so it has no folder.
    "digits": lambda _: load_digits(),
    **{name: partial(load_mnist, name) for name in ("mnist", "fashion-mnist")},
    **{name: partial(load_cifar, name) for name in ("cifar10", "cifar100")},
}


def dataset_names() -> tuple[str, ...]:
    """The names that `load_dataset` knows, sorted."""
    return tuple(sorted(_LOADERS))


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Read a dataset into memory.

    Args:
        name: one of `dataset_names()`.
        data_dir: the folder that holds the files (for CIFAR also the `.tar.gz` itself). `digits` needs none, nor does
            `fashion-mnist` if Debian's package `dataset-fashion-mnist` is installed.

    Raises:
        UsageError: the name is unknown, the files are missing or damaged, or `digits` lacks scikit-learn.
    """
    if name not in _LOADERS:
        raise unknown_name("dataset", name, _LOADERS)
    folder = None if data_dir is None else Path(data_dir).expanduser()
    if folder is not None and name != "digits" and not folder.exists():
        raise UsageError(
            f"{name}: the data folder {folder} does not exist; name the folder that holds the files"
        )
    return _LOADERS[name](folder)
