"""A run on somebody's images: what is shown of them, what is said of them, and that it goes on as it was."""

import copy
import re
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.distributed import collectives
from dfad_fast.errors import DFADFastWarning, UsageError
from dfad_fast.sources import Folder, Turn, as_source
from dfad_fast.sources.folder.recognition import Recognition
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
MEAN, STD = 0.4, 0.25
CENTERS = (0.125, 0.375, 0.625, 0.875)


class Brightness(nn.Module):
    """Four classes, from dark to bright, of images whose pixels from 0 to 1 were normalized."""

    def __init__(self, sharpness=400.0):
        super().__init__()
        self.sharpness = sharpness
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.norm.running_mean.fill_((0.5 - MEAN) / STD)
        self.norm.running_var.fill_(1.0)

    def forward(self, x):
        pixels = (self.norm(x) + self.norm.running_mean) * STD + MEAN
        off = pixels.mean((1, 2, 3))[:, None] - x.new_tensor(CENTERS)
        return -self.sharpness * off.square()


def save(path, values):
    """An image of one brightness, from 0 to 255, for each of ``values``."""
    images = np.broadcast_to(np.array(values, np.uint8)[:, None, None], (len(values), 8, 8))
    np.savez(path, images=images)
    return path


@pytest.fixture
def path(tmp_path):
    """Images of 200 brightnesses."""
    return save(tmp_path / "images.npz", np.arange(28, 228))


@pytest.fixture
def student():
    torch.manual_seed(0)
    return make_net(4)


def trainer_of(student, source, teacher=None, **settings):
    settings = {"latent_dim": 8, "batch_size": 16, "image_mean": [MEAN], "image_std": [STD], **settings}
    teacher = teacher or Brightness()
    return DFADTrainer(teacher.eval(), copy.deepcopy(student), SHAPE, "dfad", source=source, **settings)


def batches_of(trainer, iterations=1):
    source = trainer.distiller.source
    return [batch for _ in range(iterations) for batch in source.batches(Turn(iter([]), [], 0.0))]


def brightness(images):
    """0 to 255, of images that have one."""
    return (255 * (images.mean((1, 2, 3)) * STD + MEAN)).round().long()


def test_the_student_sees_the_images_and_what_the_teacher_says_to_them(path, student):
    trainer = trainer_of(student, Folder(str(path), augment="none"))
    shown = batches_of(trainer)
    assert len(shown) == 5
    for batch in shown:
        assert batch.images.shape == (16, *SHAPE)
        values = brightness(batch.images)
        expected = ((values.float() / 255 - MEAN) / STD)[:, None, None, None].expand(16, *SHAPE)
        torch.testing.assert_close(batch.images, expected)
        assert set(values.tolist()) <= set(range(28, 228))
        torch.testing.assert_close(batch.view.logits, trainer.teacher(batch.images))


def test_the_teacher_is_asked_about_what_augmentation_made_of_them(path, student):
    trainer = trainer_of(student, Folder(str(path), augment="shift-cutmix-mix"))
    shown = batches_of(trainer)
    images = torch.cat([batch.images for batch in shown])
    torch.testing.assert_close(torch.cat([batch.view.logits for batch in shown]), trainer.teacher(images))
    of_one_value = images.flatten(1).std(1) < 1e-5
    assert 0.4 < float(of_one_value.float().mean()) < 0.9  # a third of them are CutMix


def test_no_step_sees_what_is_held_out(path, student):
    trainer = trainer_of(student, Folder(str(path), augment="none", balance=False))
    shown = set(brightness(torch.cat([b.images for b in batches_of(trainer, 40)])).tolist())
    held_out = list(trainer.distiller.held_out_batches(50))
    assert [len(part) for part in held_out] == [16, 16, 16, 2]
    values = brightness(torch.cat(held_out))
    assert len(set(values.tolist())) == 20
    assert torch.equal(values[:20], values[20:40])
    assert len(shown) == 180
    assert not shown & set(values.tolist())


@pytest.mark.filterwarnings("ignore:.*far from the teacher.s data")
@pytest.mark.parametrize(("balance", "share"), [(True, 1 / 4), (False, 0.85)])
def test_classes_are_balanced(tmp_path, student, balance, share):
    values = [20] * 850 + [80] * 50 + [150] * 50 + [220] * 50
    path = save(tmp_path / "images.npz", values)
    trainer = trainer_of(student, Folder(str(path), augment="none", balance=balance))
    answers = torch.cat([batch.view.logits for batch in batches_of(trainer, 20)]).argmax(1)
    assert float((answers == 0).float().mean()) == pytest.approx(share, abs=0.05)


def test_figures_are_told_and_near_images_are_no_cause_for_alarm(path, student):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DFADFastWarning)
        trainer = trainer_of(student, Folder(str(path)))
    (notice,) = (line for line in trainer.notices if str(path) in line)
    assert "200 images, 20 of them held out" in notice
    found = re.search(
        r"effectively (\S+) of its 4 classes, with confidence (\S+), and .* (\S+) deviations", notice
    )
    classes, confidence, off = map(float, found.groups())
    assert 3.7 < classes <= 4
    assert confidence > 0.9
    assert off == pytest.approx(abs(np.arange(28, 228).mean() / 255 - 0.5) / STD, abs=0.06)


@pytest.mark.parametrize(
    ("values", "teacher", "said"),
    [
        ([100] * 30, Brightness(), r"fewer classes than 2\.4"),
        (range(28, 228), Brightness(0.5), r"confidence below 0\.5"),
        ([20] * 40 + [80] * 30 + [150] * 30, Brightness(), r"statistics more than 0\.5 off"),
    ],
)
def test_images_far_from_what_the_teacher_knows_are_warned_about(tmp_path, student, values, teacher, said):
    path = save(tmp_path / "images.npz", list(values))
    what_to_do = r"\(" + said + r"\): the teacher sees effectively .*; use images closer to"
    with pytest.warns(DFADFastWarning, match=f"far from the teacher's data.*{what_to_do}"):
        trainer_of(student, Folder(str(path)), teacher)


def test_without_mean_and_deviation_images_have_their_own(path, student):
    trainer = trainer_of(student, Folder(str(path)), image_mean=None, image_std=None)
    images = torch.cat(list(trainer.distiller.held_out_batches(20)))
    values = np.arange(28, 228) / 255
    kept = (images.mean((1, 2, 3)) * 0.2264 + values.mean()) * 255
    assert float((kept - kept.round()).abs().max()) < 1.5
    (notice,) = (line for line in trainer.notices if "--mean" in line)
    mean, std = map(float, re.search(r"own mean (\S+) and deviation (\S+)", notice).groups())
    assert (mean, std) == pytest.approx((values.mean(), values.std()), abs=1e-3)


def test_a_run_goes_on_as_if_it_had_not_been_interrupted(path, student, tmp_path):
    source = str(Folder(str(path), augment="flip-shift-crop-cutmix-mix"))
    whole = trainer_of(student, source)
    whole.planned_iterations = 6
    whole.fit(6)
    half = trainer_of(student, source, out=tmp_path / "run")
    half.planned_iterations = 6
    half.fit(3)
    resumed = trainer_of(student, source, out=tmp_path / "run", resume=True)
    resumed.fit(3)
    for key, value in whole.networks.student.state_dict().items():
        assert torch.equal(resumed.networks.student.state_dict()[key], value), key
    assert resumed.distiller.state.teacher_passes == whole.distiller.state.teacher_passes
    assert whole.distiller.state.teacher_passes == 180 + 6 * 5 * 16
    assert whole.generated_images == 0
    moved = Folder(str(path.rename(tmp_path / "moved.npz")), augment="flip-shift-crop-cutmix-mix")
    with pytest.raises(UsageError, match=r"moved\.npz.*accept"):
        trainer_of(student, moved, out=tmp_path / "run", resume=True)
    again = {"out": tmp_path / "run", "resume": True, "accept_changes": True}
    assert trainer_of(student, moved, **again).iteration == 6
    save(tmp_path / "moved.npz", np.arange(29, 229))
    with pytest.raises(UsageError, match="the images that its source reads have changed"):
        trainer_of(student, moved, **again)


def test_several_processes_show_their_rows_of_the_same_batch(path, student, monkeypatch):
    def shown():
        return [batch.images for batch in batches_of(trainer_of(student, Folder(str(path))))]

    whole = shown()
    trainers = [trainer_of(student, Folder(str(path))) for _ in range(2)]
    monkeypatch.setattr("dfad_fast.distributed.processes.count", lambda: 2)
    parts = []
    for rank, trainer in enumerate(trainers):
        monkeypatch.setattr("dfad_fast.distributed.processes.rank", lambda rank=rank: rank)
        bench = SimpleNamespace(
            **{**vars(trainer.distiller.source._bench), "device": torch.device("cpu")},
            see=lambda images, rows: SimpleNamespace(images=images),
        )
        trainer.distiller.source._bench = bench
        parts.append([batch.images for batch in batches_of(trainer)])
    for images, *own in zip(whole, *parts, strict=True):
        assert [len(part) for part in own] == [8, 8]
        assert torch.equal(torch.cat(own), images)


def test_all_processes_draw_by_what_the_first_one_finds(path, student, monkeypatch):
    collect = collectives.collect

    def rounded_otherwise(value):
        if isinstance(value, Recognition):
            return [replace(value, classes=torch.zeros_like(value.classes)), value]
        return collect(value)

    monkeypatch.setattr(collectives, "collect", rounded_otherwise)
    source = trainer_of(student, Folder(str(path))).distiller.source
    assert source.state_dict()["classes"].tolist() == [0] * 180


def test_it_may_be_a_part_of_a_mixture(path, student):
    trainer = trainer_of(student, f"0.5*fresh + 0.5*folder(path={str(path)!r})")
    losses = trainer.step()
    assert "student/l1" in losses
    assert trainer.generated_images == 6 * 8


def test_paths_are_whole_and_text_says_them_again(path, student, monkeypatch):
    monkeypatch.chdir(path.parent)
    spec = as_source("folder(path='images.npz', limit=50, balance=False)")
    assert spec == Folder(str(path), balance=False, limit=50)
    assert as_source(str(spec)) == spec
    assert Folder("~/images").path.startswith("/")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augment": "flp"}, "unknown augmentation 'flp': did you mean 'flip'"),
        ({"repeats": 0.5}, "repeats must be a finite number of at least 1, got 0.5"),
        ({"limit": -1}, "limit must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        Folder("images", **settings)


def test_a_path_is_needed_and_has_to_be_there(student, tmp_path):
    with pytest.raises(UsageError, match="folder needs the path of a folder of images"):
        trainer_of(student, "folder")
    with pytest.raises(UsageError, match=r"no file or folder .*missing"):
        trainer_of(student, Folder(str(tmp_path / "missing")))
