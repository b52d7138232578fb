import copy
import json
import math

import pytest
import torch
from torch import nn

from dfad_fast.errors import RunError, UsageError
from dfad_fast.inspection.inspecting import inspect
from dfad_fast.inspection.lines import draw_pairs
from dfad_fast.inspection.picture import draw_inspection
from tests.inspection.conftest import CLASSES, make_net


def scores(run, images="real", samples=200, bins=15, seed=0):
    return inspect(run, images, samples, bins, seed)


def spread(net):
    """The same network with an answer for every class: its logits centered and scaled over random images."""
    with torch.no_grad():
        logits = net(torch.randn(256, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 1.2)
        net[-1].bias -= logits.mean(0)
        net[-1].weight /= logits.std()
        net[-1].bias /= logits.std()
    return net


@pytest.mark.parametrize("images", ["real", "generated"])
def test_a_student_that_is_the_teacher_is_like_it_in_everything(run_of, images):
    teacher = spread(make_net(0))
    found = scores(run_of(teacher, copy.deepcopy(teacher)), images)
    assert found.agreement == 1
    assert [stage.cka for stage in found.stages] == pytest.approx([1, 1])
    assert [stage.sign_agreement for stage in found.stages] == pytest.approx([1, 1])
    assert found.lines.pairs > 20
    assert found.lines.mean_agreement == pytest.approx(1)
    assert found.lines.l1 == [0] * 11
    data = found.as_data()
    assert data["teacher"] == data["student"]
    assert found.student.accuracy == 1
    assert found.missing == []


class Shuffled(nn.Module):
    """A network that answers each image with its answer to another of the batch."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))
        return self.net(images[order])


def test_a_student_that_looks_at_other_images_is_not_like_it(run_of):
    teacher = spread(make_net(0))
    found = scores(run_of(teacher, Shuffled(copy.deepcopy(teacher))))
    assert found.agreement < 0.6
    assert found.student.accuracy < 0.6
    assert all(abs(stage.cka) < 0.1 for stage in found.stages)
    # Half way between images this teacher nearly always answers the same.
    assert max(found.lines.agreement[0], found.lines.agreement[-1]) < 0.6
    assert min(found.lines.l1) > 0.1


def test_figures_are_those_of_a_plain_pass(run_of):
    teacher, student = spread(make_net(0)), spread(make_net(1))
    run = run_of(teacher, student)
    found = scores(run)
    images = run.test_set.normalize(run.test_set.test_images)
    with torch.no_grad():
        t, s = teacher(images), student(images)
        stage_t, stage_s = (net[:2](images) for net in (teacher, student))
    assert found.compared == found.labeled == 200
    assert found.agreement == pytest.approx((t.argmax(1) == s.argmax(1)).double().mean().item())
    right = (s.argmax(1) == run.test_set.test_labels).double().mean().item()
    assert found.student.accuracy == pytest.approx(right)
    signs = ((stage_t > 0) == (stage_s > 0)).double().mean().item()
    assert found.stages[0].sign_agreement == pytest.approx(signs)
    first, second = draw_pairs(t.argmax(1), torch.Generator().manual_seed(0))
    for end, rows in ((0, first), (-1, second)):
        assert found.lines.l1[end] == pytest.approx((t - s)[rows].abs().mean().item(), rel=1e-5)
    made = run.generated(200, 0)
    with torch.no_grad():
        expected = torch.bincount(teacher(made).argmax(1), minlength=CLASSES).tolist()
    assert found.balance.counts == expected
    assert found.generated == sum(expected) == 200


def test_a_seed_draws_the_same_images_again_and_another_one_others(run_of):
    run = run_of(spread(make_net(0)), spread(make_net(1)))
    first = scores(run, samples=50)
    assert first.compared == first.labeled == first.generated == 50
    assert scores(run, samples=50).as_data() == first.as_data()
    other = scores(run, samples=50, seed=1)
    assert other.stages != first.stages
    assert other.balance != first.balance
    torch.testing.assert_close(run.generated(20, 0), run.generated(50, 0)[:20])


def test_a_narrower_student_needs_its_trained_connectors_for_signs(run_of, tmp_path):
    teacher, student = spread(make_net(0)), make_net(1, width=4)
    trained = scores(run_of(teacher, student, connectors_trained=True))
    assert all(0 < stage.sign_agreement < 1 for stage in trained.stages)
    without = scores(run_of(teacher, student))
    assert [stage.sign_agreement for stage in without.stages] == [None, None]
    assert [stage.cka for stage in without.stages] == [stage.cka for stage in trained.stages]
    assert "sign agreement of 2#0, 5#0: the student is narrower there" in without.missing[0]


@pytest.mark.pictures
def test_what_is_not_there_is_told_and_the_rest_measured(run_of, tmp_path):
    net = spread(make_net(0))
    found = scores(run_of(net, net, test_set=None, no_test_set="none"), "generated")
    assert (found.teacher, found.student, found.dataset, found.labeled) == (None, None, None, 0)
    assert found.missing == ["accuracy and calibration: none"]
    draw_inspection(tmp_path / "without_data.png", found)
    found = scores(run_of(net, net, makes_images=False))
    assert (found.balance, found.generated) == (None, 0)
    draw_inspection(tmp_path / "without_generator.png", found)
    assert all(path.stat().st_size > 20_000 for path in tmp_path.glob("*.png"))


def test_real_images_are_looked_at_without_the_record_that_images_are_made_by(run_of):
    class Gone:
        def held_out_count(self, most):
            return most

        def held_out(self, count, size):
            raise UsageError("no record")

    run = run_of(*[spread(make_net(0))] * 2, source=Gone())
    found = scores(run)
    assert (found.balance, found.missing) == (None, ["class balance of generated images: no record"])
    with pytest.raises(UsageError, match="no record"):
        scores(run, "generated")


@pytest.mark.pictures
def test_networks_that_answer_one_class_have_no_lines_and_no_nan_in_the_data(run_of, tmp_path):
    dead = make_net(0)
    with torch.no_grad():
        for parameter in dead.parameters():
            parameter.zero_()
        dead[-1].bias[1] = 1
    found = scores(run_of(dead, copy.deepcopy(dead)))
    assert found.agreement == 1
    assert all(math.isnan(stage.cka) for stage in found.stages)
    assert found.balance.entropy == 0
    assert "agreement on lines: the teacher puts all images into one class" in found.missing
    data = json.loads(json.dumps(found.as_data(), allow_nan=False))
    assert data["stages"][0]["cka"] is None
    assert data["lines"]["mean_agreement"] is None
    draw_inspection(tmp_path / "dead.png", found)


@pytest.mark.parametrize("images", ["real", "generated"])
@pytest.mark.parametrize("who", ["teacher", "student"])
def test_answers_that_are_nan_are_a_run_error(run_of, images, who):
    networks = {"teacher": make_net(0), "student": make_net(1)}
    run = run_of(**networks)
    with torch.no_grad():
        networks[who][-1].bias[0] = math.nan
    with pytest.raises(RunError, match=f"the {who} returns NaN or inf for .* images, so nothing"):
        scores(run, images)


@pytest.mark.parametrize(
    ("changed", "fields", "message"),
    [
        ({"samples": 3}, {}, "--samples must be at least 4, got 3"),
        ({"bins": 0}, {}, "--bins must be at least 1, got 0"),
        ({"seed": -1}, {}, "--seed must be at least 0, got -1"),
        ({"images": "generated"}, {"makes_images": False}, "holds no generator .*--images real"),
        ({"images": "real"}, {"test_set": None}, "names no dataset: give one with --dataset"),
    ],
)
def test_a_wrong_request_is_refused(run_of, changed, fields, message):
    net = make_net(0)
    with pytest.raises(UsageError, match=message):
        scores(run_of(net, net, **fields), **changed)
