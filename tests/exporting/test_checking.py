from pathlib import Path

import pytest
import torch
from torch import nn

from dfad_fast.errors import RunError
from dfad_fast.exporting.checking import answers_of, ask, write_checked


@pytest.fixture
def expected():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    images = torch.randn(70, 1, 4, 4)
    return network, answers_of(network, images, torch.arange(70) % 3)


def test_images_are_shown_in_batches_of_several_sizes():
    sizes = []

    def predict(images):
        sizes.append(len(images))
        return images.flatten(1)

    assert ask(predict, torch.zeros(70, 1, 2, 2)).shape == (77, 4)
    assert sizes == [64, 6, 1, 1, 1, 1, 3]
    sizes.clear()
    assert ask(predict, torch.zeros(2, 1, 2, 2)).shape == (6, 4)
    assert sizes == [2, 1, 1, 2]


def test_figures(expected):
    network, answers = expected
    assert answers.largest == pytest.approx(answers.logits.abs().max().item())
    assert (answers.difference(answers.logits), answers.agreement(answers.logits)) == (0.0, 1.0)
    right = network(answers.images).argmax(1) == torch.arange(70) % 3
    assert answers.accuracy(answers.logits) == pytest.approx(right.double().mean().item())
    other = answers.logits.clone()
    other[:7] = -other[:7]
    other[-1] = -other[-1]  # one of those that are only shown again
    changed = int((other[:70].argmax(1) != answers.logits[:70].argmax(1)).sum())
    assert answers.agreement(other) == pytest.approx(1 - changed / 70)
    assert 0 < changed <= 7
    assert answers.difference(other) == pytest.approx(2 * other[[*range(7), -1]].abs().max().item())
    assert answers_of(network, answers.images, None).accuracy(other) is None


def shift(by):
    return lambda network: lambda images: network(images) + by


def only_one_size(network):
    def predict(images):
        if len(images) != 64:
            raise ValueError("this takes\n64 images")
        return network(images)

    return predict


@pytest.mark.parametrize(
    ("change", "tolerance", "message"),
    [
        (
            shift(1e-2),
            1e-4,
            r"does not match the student: the logits differ by 0.01, but rounding explains at most",
        ),
        (shift(1e-6), 0.0, "does not match the student"),
        (shift(float("nan")), 1e9, "but returns NaN or inf"),
        (
            lambda network: lambda images: network(images)[:, :2],
            1e-4,
            r"logits \[77, 2\] instead of \[77, 3\]",
        ),
        (only_one_size, 1e-4, r"cannot be run \(this takes 64 images\)"),
    ],
)
def test_a_file_that_answers_otherwise_is_not_kept(expected, tmp_path, change, tolerance, message):
    network, answers = expected
    path = tmp_path / "student.onnx"
    for before in (None, "what was there"):
        if before:
            path.write_text(before)
        with pytest.raises(RunError, match=message):
            write_checked(path, lambda draft: draft.touch(), lambda _: change(network), answers, tolerance)
        assert [file.read_text() for file in tmp_path.iterdir()] == ([before] if before else [])
    with pytest.raises(RunError, match="so it is not kept: leave it out"):
        write_checked(path, Path.touch, lambda _: change(network), answers, tolerance, "leave it out")


def test_rounding_is_not_another_answer(expected, tmp_path):
    network, answers = expected
    path = tmp_path / "student.onnx"
    predict, logits = write_checked(
        path, lambda draft: draft.write_text("new"), lambda _: shift(1e-6)(network), answers, 1e-4
    )
    assert path.read_text() == "new"
    assert predict(answers.images).shape == (70, 3)
    assert 0 < answers.difference(logits) < 1e-5


def test_what_cannot_be_read_again_is_not_kept(expected, tmp_path):
    def read(_):
        raise OSError("no such format")

    with pytest.raises(RunError, match=r"student\.pt2 was exported, but cannot be run \(no such format\)"):
        write_checked(tmp_path / "student.pt2", lambda draft: draft.touch(), read, expected[1], 1e-4)
    assert not list(tmp_path.iterdir())


def test_a_student_that_takes_one_image_for_none_is_refused():
    with pytest.raises(
        RunError, match=r"the student fails at some batch sizes \(.*\), so nothing is exported"
    ):
        answers_of(lambda images: images.flatten(1).squeeze(), torch.ones(5, 1, 2, 2), None)


def test_a_student_that_answers_inf_is_refused():
    with pytest.raises(RunError, match="the student returns NaN or inf"):
        answers_of(lambda images: images.flatten(1) / 0, torch.ones(2, 1, 2, 2), None)
