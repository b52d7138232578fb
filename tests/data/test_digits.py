import sys

import pytest
import torch

from dfad_fast.data import load_dataset


@pytest.fixture
def digits():
    pytest.importorskip("sklearn")
    return load_dataset("digits")


def test_shapes_types_and_classes(digits):
    assert digits.train_images.shape == (1347, 1, 8, 8)
    assert digits.test_images.shape == (450, 1, 8, 8)
    assert digits.image_shape == (1, 8, 8)
    assert digits.classes == tuple("0123456789")


def test_the_split_holds_every_image_once_with_its_label_and_loses_no_gray_level(digits):
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    levels = (images.float() * 16 / 255).round().int().tolist()
    ours = zip(levels, torch.cat([digits.train_labels, digits.test_labels]).tolist(), strict=True)
    theirs = zip(pixels.astype(int).tolist(), labels.tolist(), strict=True)
    assert sorted(ours) == sorted(theirs)
    assert int(images.max()) == 255


def test_each_class_gives_a_quarter_of_its_images_to_the_test_set(digits):
    test = digits.test_labels.bincount()
    total = test + digits.train_labels.bincount()
    assert ((test - total / 4).abs() < 1).all()


def test_neither_seed_nor_order_of_calls_changes_the_split(digits):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = load_dataset("digits")
    assert torch.equal(again.test_images, digits.test_images)
    assert torch.equal(again.train_labels, digits.train_labels)
    assert torch.equal(torch.get_rng_state(), state)


def test_normalized_training_images_have_mean_0_and_deviation_1(digits):
    images = digits.normalize(digits.train_images)
    assert abs(images.mean()) < 1e-3
    assert abs(images.std() - 1) < 1e-3


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch, usage_error):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with usage_error("pip install 'dfad-fast[digits]'"):
        load_dataset("digits")
