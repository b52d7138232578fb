"""``dfad-fast record``, and a run on what it wrote."""

import numpy as np
import pytest

from dfad_fast.sources.recorded.record import read_record

OWN = ("--teacher", "own.py:teacher", "--teacher-weights", "teacher.pt", "--image-shape", "1,8,8")
NORMALIZED = ("--mean", "0.5", "--std", "0.25")


@pytest.fixture
def images(own, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "private.npz", images=pixels)
    return "--images", "private.npz"


def test_a_record_is_written_distilled_from_and_looked_at(dfad_fast, own, images, tmp_path):
    done = dfad_fast("record", *OWN, *NORMALIZED, *images, "--out", "a.safetensors", "--least", "4")
    assert done.code == 0, done.err
    assert "80 images, " in done.out
    assert read_record(tmp_path / "a.safetensors").about.image_shape == (1, 8, 8)
    source = ("--source", "bank(recorded(path='a.safetensors', steps=2), images=64)")
    done = dfad_fast("distill", *own, *NORMALIZED, "--method", "dream", *source)
    assert done.code == 0, done.err
    assert "record of 80 images" in done.out
    done = dfad_fast("inspect", "run", "--samples", "32")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("source", "told"),
    [((), "recorded needs the file"), (("--source", "bank(recorded(path='gone.safetensors'))"), "no record")],
)
def test_a_missing_record_is_told_before_a_teacher_is_trained(dfad_fast, tmp_path, source, told):
    done = dfad_fast("distill", "--dataset", "digits", "--method", "dfkd", "--teachers", "teachers", *source)
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "teachers").exists()


def test_the_training_images_of_a_dataset(dfad_fast, tmp_path):
    done = dfad_fast("record", "--dataset", "digits", "--teacher-epochs", "1", "--out", "digits.safetensors")
    assert done.code == 0, done.err
    assert read_record(tmp_path / "digits.safetensors").about.images == 1347


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*OWN, *NORMALIZED, "--out", "a.safetensors"), "no images to record: give --images"),
        ((*OWN, "--images", "private.npz", "--out", "a.safetensors"), "give --mean and --std"),
        ((*OWN, *NORMALIZED, "--images", "private.npz", "--out", "a.pt"), "use --out NAME.safetensors"),
        ((*OWN, *NORMALIZED, "--images", "gone", "--out", "a.safetensors"), "no file or folder 'gone'"),
        (
            (*OWN, *NORMALIZED, "--images", "private.npz", "--out", "a.safetensors", "--least", "2"),
            "least must be at least 3, got 2",
        ),
        (
            (
                *OWN,
                "--teacher-weights",
                "teacher.pt",
                *NORMALIZED,
                "--images",
                "private.npz",
                "--out",
                "a.safetensors",
            ),
            "a record describes one network",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(dfad_fast, images, arguments, told):
    done = dfad_fast("record", *arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert told in done.err


def test_a_file_that_is_there_stays(dfad_fast, images, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    done = dfad_fast("record", *OWN, *NORMALIZED, *images, "--out", "a.safetensors")
    assert done.code == 2
    assert "a.safetensors already exists: give another place with --out, or --overwrite" in done.err
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"
