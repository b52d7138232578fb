"""CIFAR-10 and CIFAR-100, from the python batches, their archive, folders of PNG files, or only test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfad_fast.data.augment import ShiftFlip
from dfad_fast.data.cifar_batches import SIZE, Layout, Split, parse, read_archive, read_folder
from dfad_fast.data.dataset import Dataset
from dfad_fast.data.image_folder import class_names, is_image_folder, read_split
from dfad_fast.data.test_images import read_test_images
from dfad_fast.errors import UsageError


@dataclass(frozen=True)
class _Source:
    layout: Layout
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    torchvision: str


_SOURCES = {
    "cifar10": _Source(
        Layout(
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            train_files=tuple(f"data_batch_{i}" for i in range(1, 6)),
            test_file="test_batch",
            names_file="batches.meta",
            label_key="labels",
            names_key="label_names",
            classes=10,
        ),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        torchvision="CIFAR10",
    ),
    "cifar100": _Source(
        Layout(
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            train_files=("train",),
            test_file="test",
            names_file="meta",
            label_key="fine_labels",
            names_key="fine_label_names",
            classes=100,
        ),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        torchvision="CIFAR100",
    ),
}

_CLASSES = {
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )
}  # fmt: skip


def load_cifar(name: str, data_dir: Path | None) -> Dataset:
    """`cifar10` or `cifar100` (its 100 fine classes): uint8 [N, 3, 32, 32].

    Looks in `data_dir/<name>` and `data_dir` for the folder of python batches, then for its archive, then for PNG files
    (`train/<class>/*.png`, `test/<class>/*.png`), then for `<name>*.npz` with only test images (`images` uint8 [N, 3,
    32, 32], `labels` [N]), on which no teacher can be trained. `data_dir` may also be the folder of batches, the
    archive or the .npz file.

    Raises:
        UsageError: nothing was found, or a file is missing or damaged.
    """
    source = _SOURCES[name]
    layout = source.layout
    places = [] if data_dir is None else [data_dir / name, data_dir]
    for place in places:
        if place.suffix == ".npz" and place.is_file():
            return _test_only(name, place)
        # `train` is a file in the CIFAR-100 batches and a folder in a PNG tree, hence is_file.
        for folder in (place / layout.folder, place):
            if (folder / layout.train_files[0]).is_file():
                return _dataset(name, *parse(read_folder(folder, layout), layout))
        for archive in (place / layout.archive, place):
            if archive.is_file():
                return _dataset(name, *parse(read_archive(archive, layout), layout))
        if is_image_folder(place):
            return _from_images(name, place)
        arrays = sorted(place.glob(f"{name}*.npz"))
        if len(arrays) > 1:
            raise UsageError(f"{place}: several {name}*.npz files: pass one of them as the data folder")
        if arrays:
            return _test_only(name, arrays[0])
    raise _not_found(name, source, places)


def _from_images(name: str, folder: Path) -> Dataset:
    classes, expected = class_names(folder), _SOURCES[name].layout.classes
    if len(classes) != expected:
        raise UsageError(f"{folder}: {name} has {expected} classes, but train has {len(classes)} folders")
    train, test = (read_split(folder / split, classes, (SIZE, SIZE)) for split in ("train", "test"))
    return _dataset(name, train, test, classes)


def _test_only(name: str, path: Path) -> Dataset:
    count = _SOURCES[name].layout.classes
    test = read_test_images(path, count)
    return _dataset(
        name, (test[0][:0], test[1][:0]), test, _CLASSES.get(name) or tuple(map(str, range(count)))
    )


def _dataset(name: str, train: Split, test: Split, classes: tuple[str, ...]) -> Dataset:
    return Dataset(
        name=name,
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
        classes=classes,
        mean=_SOURCES[name].mean,
        std=_SOURCES[name].std,
        augment=ShiftFlip(shift=4, flip=True),
    )


def _not_found(name: str, source: _Source, places: list[Path]) -> UsageError:
    looked = ", ".join(map(str, places)) or "no folder: none was given"
    layout = source.layout
    return UsageError(
        f"{name} was not found (looked in: {looked}; "
        f"for {layout.folder}/, {layout.archive}, train/<class>/*.png and test/<class>/*.png, or {name}*.npz); "
        f'get it by: python -c "import torchvision; torchvision.datasets.{source.torchvision}'
        "('DIR', download=True)\" and DIR as the data folder; "
        f"or {layout.archive} from www.cs.toronto.edu/~kriz/cifar.html"
    )
