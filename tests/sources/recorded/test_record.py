"""What a record holds, and its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dfad_fast import UsageError
from dfad_fast.models.reading.last_layer import find_last_layer
from dfad_fast.sources.recorded.measuring import Detail, measure_record
from dfad_fast.sources.recorded.record import FORM, read_record
from dfad_fast.sources.recorded.targets import Targets
from tests.small_networks import make_net

SHAPE = (1, 8, 8)


def test_means_and_variances_are_those_of_a_plain_pass(pair, images, record):
    teacher = pair[0]
    with torch.no_grad():
        features = teacher[:9](images)
        first = teacher[:2](images)
        answers = teacher(images).argmax(1)
    assert record.about.last_layer == "9"
    assert record.about.taps == ("2#0", "6#0")
    assert record.about.images == 180
    assert record.about.nonnegative
    for label in range(4):
        own = features[answers == label]
        if len(own) < 8:
            assert record.class_counts[label] == 0
            continue
        assert record.class_counts[label] == len(own)
        torch.testing.assert_close(record.class_means[label], own.mean(0))
        torch.testing.assert_close(record.class_variances[label], own.var(0, correction=0))
    expected = torch.stack((first.mean((0, 2, 3)), first.var((0, 2, 3), correction=0)))
    torch.testing.assert_close(record.layers[0], expected, rtol=1e-4, atol=1e-5)
    known = torch.cat([features[answers == label] for label in range(4) if record.class_counts[label]])
    assert record.scale == pytest.approx(known.var(0, correction=0).mean().sqrt().item(), rel=1e-3)


def test_directions_are_principal(pair, images):
    record = measure_record(pair[0], SHAPE, [images], Detail(clusters=1, directions=2, least=8))
    with torch.no_grad():
        features, answers = pair[0][:9](images), pair[0](images).argmax(1)
    label = int(record.cluster_classes[0])
    values, vectors = torch.linalg.eigh(torch.cov(features[answers == label].T, correction=0))
    torch.testing.assert_close(record.deviations[0], values[-2:].flip(0).sqrt(), rtol=1e-3, atol=1e-5)
    along = (record.directions[0] @ vectors[:, -2:].flip(1)).abs()
    torch.testing.assert_close(along, torch.eye(2), rtol=0, atol=1e-2)


def test_no_mean_is_that_of_few_images(pair, images):
    few = measure_record(pair[0], SHAPE, [images], Detail(clusters=50, directions=50, least=10))
    for label in few.cluster_classes.unique():
        # Else the class's sum less its clusters' would be that of the images left out.
        assert few.cluster_counts[few.cluster_classes == label].sum() == few.class_counts[label]
    assert few.cluster_counts.min() >= 10
    assert few.directions.shape[1] <= 9
    with pytest.raises(
        UsageError, match="fewer than 500 of these 180 images into each class: give more images"
    ):
        measure_record(pair[0], SHAPE, [images], Detail(least=500))


def test_the_teacher_is_left_in_its_modes(pair, images):
    teacher = pair[0].train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    measure_record(teacher, SHAPE, [images], Detail(least=4))
    assert all(module.training for module in teacher.modules())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_the_file_comes_back_and_holds_no_image(file, record):
    read = read_record(file)
    assert read.about == record.about
    for name, tensor in record.tensors().items():
        assert torch.equal(read.tensors()[name], tensor)
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()[FORM])["image_shape"] == [1, 8, 8]
        shapes = [opened.get_slice(key).get_shape() for key in opened.keys()]  # noqa: SIM118
    assert not any(shape[-3:] == [1, 8, 8] or shape[-1:] == [64] for shape in shapes)


def damaged(file, change):
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    change(tensors, header)
    save_file(tensors, file, header)


def with_version(tensors, header):
    header[FORM] = json.dumps({**json.loads(header[FORM]), "version": 9})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors, header: tensors.pop("directions"), "is damaged or not a record .*directions"),
        (lambda tensors, header: tensors["class_means"].fill_(float("nan")), "class_means holds NaN"),
        (
            lambda tensors, header: tensors["cluster_classes"].fill_(7),
            "cluster_classes is empty or holds values outside 0 to 3",
        ),
        (lambda tensors, header: tensors.update(deviations=torch.ones(3)), r"deviations is \[3\], expected"),
        (lambda tensors, header: header.pop(FORM), "is damaged or not a record"),
        (lambda tensors, header: header.update({FORM: "{"}), "is damaged or not a record"),
        (with_version, "is a record of version 9, expected 1: write it again"),
    ],
)
def test_a_damaged_file_is_refused_in_a_line(file, change, told):
    damaged(file, change)
    with pytest.raises(UsageError, match=told) as caught:
        read_record(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_or_missing_is_refused(file):
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UsageError, match="is damaged or not a record"):
        read_record(file)
    file.unlink()
    with pytest.raises(UsageError, match=r"no record .*: write one with dfad-fast record"):
        read_record(file)


@pytest.mark.parametrize("draws", ["clusters", "classes"])
def test_targets_have_the_recorded_means(record, draws):
    targets = Targets(replace(record, about=replace(record.about, nonnegative=False)), draws)
    drawn = targets.draw(np.random.default_rng(0), 6000)
    known = record.class_counts > 0
    means = record.class_means[known]
    if draws == "clusters":
        shares = torch.zeros(len(record.class_counts), len(record.cluster_counts))
        shares[record.cluster_classes, torch.arange(len(record.cluster_counts))] = (
            record.cluster_counts.float()
        )
        means = (shares / shares.sum(1, keepdim=True))[known] @ record.cluster_means
    torch.testing.assert_close(drawn.mean(0), means.mean(0), rtol=0.1, atol=0.05)
    assert Targets(record, draws).draw(np.random.default_rng(0), 500).min() >= 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"clusters": 0}, "clusters must be at least 1, got 0"),
        ({"directions": 0}, "directions must be at least 1, got 0"),
        ({"least": 2}, "least must be at least 3, got 2"),
    ],
)
def test_details_out_of_range_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        Detail(**arguments)


def test_a_teacher_without_a_last_linear_layer_is_refused():
    convolutional = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UsageError, match="does not end in a linear layer"):
        find_last_layer(convolutional, torch.zeros(2, *SHAPE))


def test_features_that_are_not_finite_are_refused(images):
    teacher = make_net(4).eval()
    teacher[0].weight.data.fill_(float("inf"))
    with pytest.raises(UsageError, match="features of these images are not finite"):
        measure_record(teacher, SHAPE, [images])
