from dataclasses import replace

import pytest
import torch

from dfad_fast.data import Dataset, ShiftFlip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int = 11, augment=None) -> Dataset:
    """Each training image is filled with its own number, and its label is that number modulo 3."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 4, 5).contiguous()
    return Dataset(
        name="numbered",
        train_images=images,
        train_labels=torch.arange(count) % 3,
        test_images=images + 100,
        test_labels=(torch.arange(count) + 1) % 3,
        classes=("a", "b", "c"),
        mean=(0.0, 0.5),
        std=(1.0, 0.25),
        augment=augment,
    )


def numbers(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


def test_normalize_scales_each_channel_by_its_own_mean_and_std():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 2, 1, 1)
    assert numbered().normalize(pixels).flatten().tolist() == [0.0, -2.0, 1.0, 2.0]


def test_normalize_keeps_float32_under_another_default_type():
    dataset = replace(numbered(), mean=(0.3, 0.4), std=(0.7, 0.9))
    expected = dataset.normalize(dataset.train_images)
    torch.set_default_dtype(torch.float16)
    try:
        assert torch.equal(dataset.normalize(dataset.train_images), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("images", [torch.zeros(1, 2, 4, 5), torch.zeros(1, 3, 4, 5, dtype=torch.uint8)])
def test_normalize_refuses_floats_and_other_channel_counts(images, usage_error):
    with usage_error("numbered", images.dtype, list(images.shape)):
        numbered().normalize(images)


def test_image_shape():
    assert numbered().image_shape == (2, 4, 5)


def test_test_batches_go_through_the_set_once_in_order():
    batches = list(numbered().test_batches(4))
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    assert [n for images, _ in batches for n in numbers(images)] == list(range(100, 111))
    assert [n for _, labels in batches for n in labels.tolist()] == [(n + 1) % 3 for n in range(11)]


def test_train_batches_shuffle_the_set_and_keep_images_with_their_labels():
    batches = list(numbered().train_batches(4, generator()))
    order = [n for images, _ in batches for n in numbers(images)]
    assert sorted(order) == list(range(11))
    assert order != sorted(order)
    assert [n for _, labels in batches for n in labels.tolist()] == [n % 3 for n in order]


def test_the_generator_alone_decides_the_train_batches():
    dataset = numbered(augment=ShiftFlip(shift=1, flip=True))
    draws = generator(7)
    torch.manual_seed(1)
    first, second = ([x for x, _ in dataset.train_batches(4, draws)] for _ in range(2))
    torch.manual_seed(2)
    again = [x for x, _ in dataset.train_batches(4, generator(7))]
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, second))


@pytest.mark.parametrize(("count", "kept"), [(9, 8), (10, 10), (1, 1)])
def test_a_last_batch_of_a_single_image_is_left_out_unless_it_is_the_only_one(count, kept):
    batches = numbered(count).train_batches(4, generator())
    assert sum(len(images) for images, _ in batches) == kept


def test_batches_of_one_keep_every_image():
    assert len(list(numbered().train_batches(1, generator()))) == 11


def test_augmentation_sees_pixels_before_normalization_and_can_be_turned_off():
    def plus_fifty(images, _):
        assert images.dtype == torch.uint8
        return images + 50

    dataset = numbered(augment=plus_fifty)
    changed = [n for x, _ in dataset.train_batches(4, generator()) for n in numbers(x)]
    plain = [n for x, _ in dataset.train_batches(4, generator(), augment=False) for n in numbers(x)]
    assert changed == [n + 50 for n in plain]
    assert [n for x, _ in dataset.test_batches(4) for n in numbers(x)] == list(range(100, 111))


@pytest.mark.parametrize("size", [0, -1])
def test_a_bad_batch_size_is_refused_before_the_first_batch(size, usage_error):
    with usage_error("batch_size", size):
        numbered().test_batches(size)
    with usage_error("batch_size", size):
        numbered().train_batches(size, generator())


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"train_images": torch.zeros(11, 2, 4, 5)}, "uint8"),
        ({"test_images": torch.zeros(11, 2, 4, 6, dtype=torch.uint8)}, "[2, 4, 6]"),
        ({"train_labels": torch.zeros(10, dtype=torch.int64)}, "10 labels for 11 images"),
        ({"train_labels": torch.zeros(11, dtype=torch.int32)}, "int64"),
        ({"test_labels": torch.full((11,), 3)}, "found 3"),
        ({"test_labels": torch.full((11,), -1)}, "found -1"),
        ({"mean": (0.5,)}, "2 channels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, part, usage_error):
    with usage_error("numbered", part):
        replace(numbered(), **change)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_seed_gives_the_same_batches_on_the_gpu():
    dataset = numbered(augment=ShiftFlip(shift=1, flip=True))
    here = dataset.train_batches(4, generator())
    there = dataset.train_batches(4, generator(), device="cuda")
    for (images, labels), (gpu_images, gpu_labels) in zip(here, there, strict=True):
        assert gpu_images.is_cuda
        assert gpu_labels.is_cuda
        torch.testing.assert_close(gpu_images.cpu(), images)
        assert torch.equal(gpu_labels.cpu(), labels)
