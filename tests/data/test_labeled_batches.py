from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dfad_fast import DFADTrainer
from dfad_fast.data.labeled_batches import read_batch
from dfad_fast.engine.evaluation import TestSet, accuracy
from dfad_fast.errors import UsageError
from tests.training.test_trainer import SHAPE, SMALL, same, weights

IMAGES = torch.randn(6, *SHAPE)
LABELS = torch.arange(6) % 4
Example = namedtuple("Example", "x y")


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, LABELS),
        [IMAGES, LABELS],
        Example(IMAGES, LABELS),
        (IMAGES, LABELS[:, None]),
        (IMAGES, LABELS.to(torch.uint8)),
        (IMAGES, LABELS.tolist()),
        (IMAGES.numpy(), LABELS.numpy()),
        (IMAGES, LABELS, ["a.png"] * 6),
        (torch.rand(6), IMAGES, LABELS),
        {"image": IMAGES, "label": LABELS},
        {"pixel_values": IMAGES, "labels": LABELS, "index": torch.arange(6)},
        {"images": IMAGES, "target": LABELS},
    ],
)
def test_batches_of_people_are_read(batch):
    images, labels = read_batch(batch)
    assert torch.equal(torch.as_tensor(images), IMAGES)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (IMAGES, r"a test batch is float32 \[6, 1, 8, 8\]: expected batches \(images"),
        ((IMAGES, LABELS, torch.arange(6)), r"3 entries \(float32 .*, int64 \[6\], int64 \[6\]\): expected"),
        ({"x": IMAGES, "y": LABELS}, "a dictionary with 'x', 'y': expected .* pixel_values and one of label"),
        (
            {"image": IMAGES, "images": IMAGES, "label": LABELS},
            "a dictionary with 'image', 'images', 'label'",
        ),
        (
            (IMAGES, nn.functional.one_hot(LABELS)),
            r"labels are \[6, 4\], which looks one-hot: .*argmax",
        ),
        ((IMAGES, LABELS.float()), "labels are float32: give class indices"),
        ((IMAGES, LABELS[:5]), "5 labels for 6 images"),
        ((IMAGES, LABELS[0]), r"labels are \[\]: give one class index for each image"),
        ((IMAGES, ["cat"] * 6), "labels are not a tensor but list"),
        ((IMAGES[0], LABELS), r"images are \[1, 8, 8\]: .* wrap it in a DataLoader"),
        (
            (IMAGES.to(torch.uint8), LABELS),
            "images are uint8: give floating-point images, normalized like the teacher's",
        ),
        ("images", "a test batch is str: expected"),
    ],
)
def test_other_batches_are_refused_in_one_line(batch, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_batch(batch)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ((IMAGES, LABELS), r"evaluate= is a single batch: .*evaluate=\[\(images, labels\)\]"),
        ({"image": IMAGES, "label": LABELS}, "is a single batch"),
        (IMAGES, "is a single batch"),
        (5, "evaluate= is int: expected batches"),
        (TensorDataset(IMAGES, LABELS), r"images are \[1, 8, 8\]: .* wrap it in a DataLoader"),
        ([(IMAGES, LABELS + 1)], "labels go from 1 to 4 but the teacher answers classes 0 to 3"),
        ([(IMAGES, LABELS - 1)], "labels go from -1 to 2"),
        ([(torch.randn(6, 3, 8, 8), LABELS)], r"the teacher cannot take the test images \[6, 3, 8, 8\] \("),
        ([(IMAGES.log(), LABELS)], "test images hold NaN or infinite values"),
        ([], "the loader gave no batch"),
    ],
)
def test_what_cannot_be_evaluated_on_is_refused_before_the_run(pair, evaluate, message):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", **SMALL)
    with pytest.raises(UsageError, match=message):
        trainer.fit(1, evaluate=evaluate)
    assert trainer.iteration == 0


def test_column_labels_are_compared_one_by_one(pair):
    teacher, student = pair
    labels = teacher(IMAGES).argmax(1)
    assert accuracy(teacher, [(IMAGES, labels[:, None])]) == 1
    assert TestSet(teacher, [(IMAGES.double(), labels[:, None])]).scores(student).teacher_accuracy == 1


def test_test_images_of_another_size_are_warned_of_once():
    teacher = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * IMAGES.shape[1], 3))
    batches = [(IMAGES, torch.zeros(len(IMAGES), dtype=torch.int64))] * 2
    channels, height, width = IMAGES.shape[1:]
    with pytest.warns(
        UserWarning, match="resize them, or the accuracy is that on images of another size"
    ) as told:
        TestSet(teacher, batches, image_shape=(channels, height + 1, width))
    assert len(told) == 1
    TestSet(teacher, batches, image_shape=(channels, height, width))


def test_test_images_stay_what_they_are_and_both_networks_see_them():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.eye(4))

        def forward(self, images):
            return images.sub_(0.5).flatten(1)[:, :4] @ self.weight

    images, teacher = IMAGES.clone(), InPlace()
    labels = (IMAGES - 0.5).flatten(1)[:, :4].argmax(1)
    test_set = TestSet(teacher, [(images, labels)])
    scores = test_set.scores(teacher), test_set.scores(teacher)
    assert torch.equal(images, IMAGES)
    assert [s.student_accuracy for s in scores] == [1, 1]
    assert scores[0].teacher_accuracy == scores[0].agreement == 1


def test_an_evaluated_run_is_the_very_run_without(pair):
    """Though a DataLoader draws from torch's global generator whenever it begins, and so does dropout."""
    import copy

    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4)

    def run(evaluate):
        teacher, student = copy.deepcopy((pair[0], nn.Sequential(pair[1], nn.Dropout(0.2))))
        torch.manual_seed(3)
        trainer = DFADTrainer(teacher, student, SHAPE, "dfad", **SMALL)
        trainer.fit(4, evaluate, log_every=1, evaluate_every=1)
        return weights(student), weights(trainer.networks.generator), np.random.get_state()[1].tolist()

    plain, evaluated = run(None), run(loader)
    assert same(plain[0], evaluated[0])
    assert same(plain[1], evaluated[1])
    assert plain[2] == evaluated[2]
