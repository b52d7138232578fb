from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dfad_fast.data import load_dataset

CLASSES = [f"c{i}" for i in range(10)]


def color(red: int, green: int = 0, blue: int = 0) -> Image.Image:
    return Image.new("RGB", (32, 32), (red, green, blue))


def write(folder: Path) -> Path:
    """One image per class and split. Train images have the class's number as red, test images as green."""
    # Made in reverse order, so that the order of the folder differs from the order by name.
    for number, name in reversed(list(enumerate(CLASSES))):
        for split, image in (("train", color(number)), ("test", color(0, number))):
            place = folder / split / name
            place.mkdir(parents=True)
            image.save(place / "1.png")
    return folder


@pytest.mark.parametrize("place", [".", "cifar10"])
def test_labels_follow_the_sorted_class_names(place, tmp_path):
    write(tmp_path / place)
    dataset = load_dataset("cifar10", tmp_path)
    assert dataset.classes == tuple(CLASSES)
    assert dataset.image_shape == (3, 32, 32)
    assert dataset.train_images.is_contiguous()
    assert dataset.train_labels.tolist() == dataset.test_labels.tolist() == list(range(10))
    assert dataset.train_images[:, :, 31, 31].tolist() == [[n, 0, 0] for n in range(10)]
    assert dataset.test_images[:, :, 31, 31].tolist() == [[0, n, 0] for n in range(10)]


def test_images_of_a_class_come_in_the_order_of_their_names(tmp_path):
    write(tmp_path)
    for name, red in (("b.png", 50), ("a.PNG", 40), ("0.png", 30)):
        color(red).save(tmp_path / "train" / "c0" / name, format="PNG")
    dataset = load_dataset("cifar10", tmp_path)
    assert dataset.train_images[:5, 0, 0, 0].tolist() == [30, 0, 40, 50, 1]
    assert dataset.train_labels[:5].tolist() == [0, 0, 0, 0, 1]


def test_rows_and_columns_keep_their_places(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[5, 7, 1] = 200
    Image.fromarray(pixels).save(write(tmp_path) / "train" / "c0" / "1.png")
    assert load_dataset("cifar10", tmp_path).train_images[0].nonzero().tolist() == [[1, 5, 7]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (32, 32), 90), [90, 90, 90]),
        (Image.new("1", (32, 32), 1), [255, 255, 255]),
        (Image.new("RGBA", (32, 32), (1, 2, 3, 255)), [1, 2, 3]),
        (color(10, 20, 30).quantize(4), [10, 20, 30]),
    ],
)
def test_other_modes_become_rgb(image, expected, tmp_path):
    image.save(write(tmp_path) / "train" / "c0" / "1.png")
    assert load_dataset("cifar10", tmp_path).train_images[0, :, 9, 9].tolist() == expected


def test_hidden_folders_and_other_files_are_no_data(tmp_path):
    write(tmp_path)
    (tmp_path / "train" / ".thumbnails").mkdir()
    (tmp_path / "train" / "readme.txt").touch()
    (tmp_path / "train" / "c0" / "Thumbs.db").touch()
    assert torch.equal(load_dataset("cifar10", tmp_path).train_labels, torch.arange(10))


def test_a_class_that_only_one_split_has_is_named(tmp_path, usage_error):
    (write(tmp_path) / "test" / "c3").rename(tmp_path / "test" / "other")
    with usage_error(tmp_path, "c3", "other"):
        load_dataset("cifar10", tmp_path)


def test_another_number_of_classes_is_refused(tmp_path, usage_error):
    with usage_error(write(tmp_path), "100 classes", "10 folders"):
        load_dataset("cifar100", tmp_path)


def test_a_class_without_images_is_named(tmp_path, usage_error):
    empty = write(tmp_path) / "test" / "c5"
    (empty / "1.png").rename(empty / "1.jpg")
    with usage_error(empty, "no .png"):
        load_dataset("cifar10", tmp_path)


def test_an_image_of_another_size_is_named(tmp_path, usage_error):
    path = write(tmp_path) / "train" / "c2" / "2.png"
    Image.new("RGB", (28, 32)).save(path)
    with usage_error(path, "expected 32x32", "32x28"):
        load_dataset("cifar10", tmp_path)


def test_sixteen_bits_are_refused_because_they_would_turn_white(tmp_path, usage_error):
    path = write(tmp_path) / "train" / "c2" / "2.png"
    Image.fromarray(np.full((32, 32), 3000, np.uint16)).save(path)
    with usage_error(path, "16 bits"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "jpeg"])
def test_a_damaged_image_is_named(damage, tmp_path, usage_error):
    path = write(tmp_path) / "train" / "c2" / "2.png"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG" if damage == "jpeg" else "PNG")
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b""}.get(damage, data))
    with usage_error(path):
        load_dataset("cifar10", tmp_path)
