import gzip
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dfad_fast.data import load_dataset, mnist

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(tensor: torch.Tensor) -> bytes:
    shape = tensor.shape
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    return header + bytes(tensor.to(torch.uint8).flatten().tolist())


def images(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)


def write(folder: Path, packed: bool = False, seed: int = 0) -> Path:
    """The four files: 6 train and 4 test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 6), ("t10k", 4)):
        for kind, tensor in (
            ("images-idx3", images(count, seed + count)),
            ("labels-idx1", torch.arange(count)),
        ):
            name, data = f"{split}-{kind}-ubyte", idx(tensor)
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def no_debian(monkeypatch, tmp_path) -> Path:
    """Puts an empty place where Debian's package would be."""
    place = tmp_path / "debian"
    source = replace(mnist._SOURCES["fashion-mnist"], system=place)
    monkeypatch.setitem(mnist._SOURCES, "fashion-mnist", source)
    return place


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", "."),
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "."),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
def test_files_are_found_in_each_place_packed_or_not(name, place, packed, tmp_path):
    write(tmp_path / place, packed)
    dataset = load_dataset(name, str(tmp_path))
    assert torch.equal(dataset.train_images, images(6, 6).unsqueeze(1))
    assert torch.equal(dataset.test_images, images(4, 4).unsqueeze(1))
    assert dataset.train_labels.tolist() == list(range(6))
    assert dataset.test_labels.tolist() == list(range(4))
    assert len(dataset.classes) == 10


def test_files_beside_the_named_folder_do_not_stand_in_for_it(tmp_path):
    write(tmp_path, seed=50)
    write(tmp_path / "fashion-mnist")
    assert torch.equal(load_dataset("fashion-mnist", tmp_path).train_images[:, 0], images(6, 6))


def test_fashion_mnist_is_found_where_debian_puts_it(no_debian, tmp_path):
    write(no_debian, packed=True)
    assert torch.equal(load_dataset("fashion-mnist").train_images[:, 0], images(6, 6))
    (tmp_path / "empty").mkdir()
    assert torch.equal(load_dataset("fashion-mnist", tmp_path / "empty").test_images[:, 0], images(4, 4))


def test_missing_files_name_the_places_and_the_ways_to_get_them(no_debian, tmp_path, usage_error):
    places = (tmp_path / "fashion-mnist", tmp_path / "FashionMNIST" / "raw", no_debian)
    with usage_error(
        *places, "apt install dataset-fashion-mnist", "torchvision.datasets.FashionMNIST", "t10k"
    ):
        load_dataset("fashion-mnist", tmp_path)


def test_one_missing_file_is_named(tmp_path, usage_error):
    (write(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with usage_error(tmp_path, "t10k-labels-idx1-ubyte"):
        load_dataset("mnist", tmp_path)


GOOD = idx(images(6, 6))
LABELS = idx(torch.arange(6))


@pytest.mark.parametrize(
    ("file", "data", "part"),
    [
        ("train-images-idx3-ubyte", b"", "header (0 bytes)"),
        ("train-images-idx3-ubyte", GOOD[:10], "header (10 bytes)"),
        ("train-images-idx3-ubyte", GOOD[:-1], "but it has 4719"),
        ("train-images-idx3-ubyte", GOOD + b"x", "but it has 4721"),
        ("train-images-idx3-ubyte", LABELS + bytes(8), "0x00000801"),
        ("train-images-idx3-ubyte", b"<html>" + GOOD, "0x3c68746d"),
        ("train-images-idx3-ubyte", struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "but it has 16"),
        ("train-images-idx3-ubyte", idx(torch.zeros(6, 14, 14)), "14x14"),
        ("train-labels-idx1-ubyte", idx(torch.arange(5)), "5 labels for 6 images"),
        ("train-labels-idx1-ubyte", idx(torch.arange(5, 11)), "found 10"),
    ],
)
def test_a_damaged_file_is_named(file, data, part, tmp_path, usage_error):
    (write(tmp_path) / file).write_bytes(data)
    with usage_error(tmp_path / file, part):
        load_dataset("mnist", tmp_path)


def test_files_without_any_image_are_refused(tmp_path, usage_error):
    write(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(torch.zeros(0, 28, 28)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.zeros(0)))
    with usage_error(tmp_path / "t10k-labels-idx1-ubyte", "no images"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "plain"])
def test_a_broken_gz_is_named(damage, tmp_path, usage_error):
    path = write(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    path.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "plain": GOOD}[damage])
    with usage_error(path, "fetch the file again"):
        load_dataset("mnist", tmp_path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist():
    dataset = load_dataset("fashion-mnist")
    assert dataset.train_images.shape == (60000, 1, 28, 28)
    assert dataset.test_labels.bincount().tolist() == [1000] * 10
    pixels = dataset.train_images.float() / 255
    assert abs(pixels.mean() - dataset.mean[0]) < 1e-3
    assert abs(pixels.std() - dataset.std[0]) < 1e-3
    # An ankle boot fills more of its picture's lower right than a sandal: labels and names belong together.
    boots, sandals = (
        pixels[dataset.train_labels == dataset.classes.index(c)] for c in ("Ankle boot", "Sandal")
    )
    assert boots[..., 14:, 14:].mean() > sandals[..., 14:, 14:].mean()
