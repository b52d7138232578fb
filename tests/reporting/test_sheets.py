import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.errors import DFADFastWarning
from dfad_fast.reporting import pictures, sheets
from dfad_fast.runs import layout, sheet_file
from dfad_fast.runs.folder import RunFolder
from dfad_fast.runs.sheet_file import Sheet
from tests.reporting.test_loggers import KillAt, Killed
from tests.training.test_trainer import SHAPE, SMALL, same, weights


def iterations_in(folder):
    return [layout.sheet_iteration(path) for path in layout.sheets_in(folder)]


def sheet_of(side, channels, count=32):
    images = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 10
    return images, sheets.lay_out(images, labels, (labels + 1) % 10, 7, 5376)


def test_a_run_shows_its_images_about_ten_times(pair, tmp_path):
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    trainer.fit(40, log_every=1, evaluate_every=2)
    assert iterations_in(tmp_path) == [2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    last = sheet_file.read(layout.sheet_file(tmp_path, 40))
    assert (last.iteration, last.generated_images) == (40, trainer.generated_images)
    shown = pictures.brightness(trainer.sample(sheets.IMAGES), None)
    assert np.array_equal(last.images[..., 0], (255 * shown[:, 0]).round().byte().numpy())
    assert last.teacher == pair[0](trainer.sample(sheets.IMAGES)).argmax(1).tolist()
    assert last.student == pair[1].eval()(trainer.sample(sheets.IMAGES)).argmax(1).tolist()


@pytest.mark.parametrize(
    ("evaluate_every", "planned", "moments"), [(14, 350, 11), (1, 4, 4), (20, 25000, 11)]
)
def test_moments_are_spread_over_a_run(evaluate_every, planned, moments):
    due = [i for i in range(1, planned + 1) if sheets.is_due(i, evaluate_every, planned)]
    assert len(due) == moments
    assert due[0] == evaluate_every


def test_a_run_with_sheets_is_the_very_run_without(pair, tmp_path):
    """Though networks of the user's draw from torch's global generator and have running statistics."""
    teacher, student = pair
    student = nn.Sequential(student, nn.Dropout(0.2))
    generator = nn.Sequential(
        nn.Linear(8, 64), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 64), nn.Unflatten(1, SHAPE)
    )

    def run(**more):
        own = copy.deepcopy((student, generator))
        torch.manual_seed(3)
        trainer = DFADTrainer(teacher, own[0], SHAPE, "dfad", own[1], **SMALL, **more)
        trainer.fit(8, log_every=1, evaluate_every=1)
        return weights(own[0]), weights(own[1]), trainer.state_dict()

    plain, shown = run(), run(out=tmp_path)
    assert len(iterations_in(tmp_path)) == 8
    for before, after in zip(plain[:2], shown[:2], strict=True):
        assert same(before, after)
    assert torch.equal(plain[2]["noise"], shown[2]["noise"])
    assert torch.equal(plain[2]["global_rng"]["torch"], shown[2]["global_rng"]["torch"])


def test_a_resumed_run_goes_on_with_its_sheets(pair, tmp_path):
    teacher, student = pair
    options = {"checkpoint_seconds": 0.0, **SMALL}
    every = {"log_every": 1, "evaluate_every": 1}
    whole = DFADTrainer(teacher, copy.deepcopy(student), SHAPE, "dfad", out=tmp_path / "whole", **options)
    whole.fit(10, **every)
    cut = tmp_path / "cut"
    killed = DFADTrainer(teacher, copy.deepcopy(student), SHAPE, "dfad", out=cut, **options)
    with pytest.raises(Killed):
        killed.fit(10, progress=KillAt(5), **every)
    assert iterations_in(cut) == [1, 2, 3, 4, 5]
    resumed = DFADTrainer(teacher, copy.deepcopy(student), SHAPE, "dfad", out=cut, resume=True, **options)
    assert iterations_in(cut) == [1, 2, 3, 4]
    resumed.fit(6, **every)
    assert iterations_in(cut) == iterations_in(tmp_path / "whole")
    for path in layout.sheets_in(cut):
        assert path.read_bytes() == (tmp_path / "whole/samples" / path.name).read_bytes()


def test_a_sheet_that_cannot_be_written_warns_and_the_run_goes_on(pair, tmp_path, monkeypatch):
    write = sheet_file.save

    def full(sheet, path):
        if sheet.iteration < 4:
            raise OSError(28, "No space left on device")
        write(sheet, path)

    monkeypatch.setattr(sheet_file, "save", full)
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, **SMALL)
    with pytest.warns(DFADFastWarning, match="No space left on device.*training continues without it"):
        trainer.fit(4, log_every=2, evaluate_every=2)
    assert iterations_in(tmp_path) == [4]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_comes_back_as_it_was_written(tmp_path, channels):
    images, sheet = sheet_of(8, channels)
    sheet_file.save(sheet, tmp_path / "sheet.png")
    back = sheet_file.read(tmp_path / "sheet.png")
    assert np.array_equal(back.images, (255 * images).round().byte().permute(0, 2, 3, 1).numpy())
    assert (back.iteration, back.generated_images) == (7, 5376)
    assert (back.teacher, back.student) == (sheet.teacher, sheet.student)
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (8 * 9 - 1, 4 * 9 - 1)


def test_large_images_are_shrunk_and_odd_channels_are_one():
    _, sheet = sheet_of(224, 4, count=3)
    assert sheet.images.shape == (3, 48, 48, 1)
    assert len(sheet.teacher) == 3
    assert sheet.grid().shape == (48, 8 * 49 - 1, 1)


@pytest.mark.parametrize("spoil", ["foreign", "torn", "told"])
def test_a_file_that_is_no_sheet_is_refused(tmp_path, spoil):
    path = tmp_path / "sheet.png"
    if spoil == "told":
        sheet = sheet_of(8, 1)[1]
        sheet_file.save(Sheet(1, 1, sheet.images, sheet.teacher * 2, sheet.student), path)
    elif spoil == "torn":
        sheet_file.save(sheet_of(8, 1)[1], path)
        path.write_bytes(path.read_bytes()[:-400])
    else:
        Image.new("L", (9, 9)).save(path)
    with pytest.raises(ValueError, match="is not a sheet of generated images"):
        sheet_file.read(path)


def test_overwriting_takes_what_is_ours_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_sheet(sheet_of(8, 1)[1])
    for name in ("log/tensorboard/events", "log/wandb/wandb/run/file", "log/mlflow/mlflow.db", "metrics.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "samples/mine.png").write_text("not a run's file")
    RunFolder(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.png"]
    assert not (tmp_path / "log").exists()
