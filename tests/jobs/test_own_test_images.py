"""Test images of the user's own: a folder of classes, an .npz, and what is wrong with either."""

import re

import numpy as np
import pytest
from PIL import Image

from dfad_fast.errors import UsageError
from dfad_fast.jobs.own_test_images import is_path, read_own
from dfad_fast.sources.folder.reading import image_set

SHAPE = (3, 8, 8)
NORMALIZED = (0.5,) * 3, (0.25,) * 3


def write(folder, classes=("cat", "dog"), count=2, size=(8, 8)):
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", size, (10 * number + index, 0, 0)).save(folder / name / f"{index}.png")
    return folder


def save(file, **arrays):
    np.savez(file, **arrays)
    return file


def test_a_folders_classes_are_its_subfolders_by_name(tmp_path):
    dataset = read_own(str(write(tmp_path, ("dog", "cat"))), SHAPE, 2, *NORMALIZED)
    assert dataset.classes == ("cat", "dog")
    assert dataset.test_labels.tolist() == [0, 0, 1, 1]
    assert dataset.test_images[:, 0, 0, 0].tolist() == [10, 11, 0, 1]
    assert (dataset.mean, dataset.std, len(dataset.train_images)) == (*NORMALIZED, 0)


def test_images_of_other_sizes_and_colors_are_fitted(tmp_path):
    write(tmp_path, size=(32, 16))
    assert read_own(str(tmp_path), SHAPE, 2, *NORMALIZED).test_images.shape == (4, *SHAPE)
    gray = read_own(str(tmp_path), (1, 8, 8), 2, (0.5,), (0.25,))
    assert gray.test_images.shape == (4, 1, 8, 8)


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (4, 3, 8, 8), (4, 8, 8)])
def test_arrays_of_every_form_are_read(shape, tmp_path):
    file = save(
        tmp_path / "test.npz", images=np.full(shape, 9, np.uint8), labels=np.arange(4, dtype=np.int32)
    )
    dataset = read_own(str(file), SHAPE, 5, *NORMALIZED)
    assert dataset.test_images.shape == (4, *SHAPE)
    assert (dataset.test_images == 9).all()
    assert dataset.test_labels.tolist() == [0, 1, 2, 3]
    assert len(dataset.classes) == 5


IMAGES = np.zeros((4, 8, 8, 3), np.uint8)
WRONG = {
    "gone": (lambda path: path / "gone", "no file or folder"),
    "no classes": (lambda path: path, "has no subfolders: expected one for each class"),
    "splits": (
        lambda path: write(path, ("train", "test")),
        "has the folders test, train: give the one with the test images",
    ),
    "no labels": (
        lambda path: save(path / "a.npz", images=IMAGES),
        "expected an array 'labels' of whole numbers",
    ),
    "one-hot labels": (
        lambda path: save(path / "a.npz", images=IMAGES, labels=np.eye(4)),
        r"labels must be whole numbers \[N\], got float64 \[4, 4\]",
    ),
    "too few labels": (
        lambda path: save(path / "a.npz", images=IMAGES, labels=np.arange(3)),
        "3 labels for 4 images",
    ),
    "labels of other classes": (
        lambda path: save(path / "a.npz", images=IMAGES, labels=np.arange(4) + 1),
        "labels must be 0 to 3, found 4",
    ),
    "no images": (lambda path: save(path / "a.npz", labels=np.arange(4)), "expected an array 'images'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_read_is_refused(kind, tmp_path):
    make, told = WRONG[kind]
    with pytest.raises(UsageError, match=told) as caught:
        read_own(str(make(tmp_path)), SHAPE, 4, *NORMALIZED)
    assert "\n" not in str(caught.value)


def test_a_damaged_image_is_not_left_out(tmp_path):
    damaged = write(tmp_path) / "dog" / "0.png"
    damaged.write_bytes(b"no")
    with pytest.raises(UsageError, match=re.escape(str(damaged))):
        read_own(str(tmp_path), SHAPE, 2, *NORMALIZED)


def test_the_normalization_must_be_known(tmp_path):
    with pytest.raises(UsageError, match="give --mean and --std"):
        read_own(str(write(tmp_path)), SHAPE, 2, None, None)


def test_more_images_than_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_set, "free_memory", lambda _: 100)
    with pytest.raises(UsageError, match=r"4 images .* are free: evaluate on fewer"):
        read_own(str(write(tmp_path)), SHAPE, 2, *NORMALIZED)


def test_names_of_datasets_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "digits")
    write(tmp_path / "mine")
    assert not is_path("digits")
    assert not is_path("digts")
    assert is_path("mine")
    assert is_path("gone/images")
    assert is_path("gone.npz")
