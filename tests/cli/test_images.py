"""``dfad-fast images``: the data set that came out of a run."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dfad_fast.jobs import images as jobs
from dfad_fast.jobs.trained_run import load_run
from dfad_fast.runs import checkpoints
from dfad_fast.sources.banking.reading import KeptImages

NORMALIZED = ("--mean", "0.5", "--std", "0.25")
SAID = "running the code in own.py, as requested\n"
BANK = ("--source", "bank(fresh, images=64) + bank(fresh, images=32, views=0)", *NORMALIZED)


@pytest.fixture(scope="module")
def kept_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def run_of(dfad_fast, own, tmp_path, kept_runs):
    """A finished run with further options in the folder run. Made once for each name, then copied."""

    def of(name, *options):
        if not (kept_runs / name).exists():
            made = dfad_fast("distill", *own, "--iterations", "4", *options, "--quiet")
            assert made.code == 0, made.err
            shutil.copytree("run", kept_runs / name)
        return shutil.copytree(kept_runs / name, tmp_path / "run", dirs_exist_ok=True)

    return of


def bank_images(run):
    """The images of all banks as they are stored, and the teacher's logits for them now."""
    state = checkpoints.read(run)
    kept = KeptImages(state["source"], None)
    images = torch.cat([images for images, _ in kept.parts(np.arange(len(kept)))])
    with torch.no_grad():
        return images, load_run(run).networks.teacher(images)


def as_bytes(images):
    return (images * 0.25 + 0.5).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def read_folder(folder):
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack([np.asarray(Image.open(folder / row["file"])) for row in rows])
    logits = np.array([[float(row[f"logit_{k}"]) for k in range(3)] for row in rows])
    return pixels[..., None], np.array([int(row["class"]) for row in rows]), logits


def test_a_bank_as_a_folder_and_as_an_archive(dfad_fast, run_of):
    run = run_of("bank", *BANK)
    images, logits = bank_images(run)
    assert len(images) == 64 + 32
    said = dfad_fast("images", "run")
    assert (said.code, said.out) == (0, f"{SAID}96 images from the run's bank: run/images\n")
    pixels, classes, answers = read_folder(run / "images")
    assert np.array_equal(pixels, as_bytes(images))
    np.testing.assert_allclose(answers, logits, rtol=1e-4, atol=1e-5)
    assert np.array_equal(classes, answers.argmax(1))
    assert dfad_fast("images", "run", "--out", "set.npz").code == 0
    with np.load("set.npz") as archive:
        assert np.array_equal(archive["images"], pixels)
        np.testing.assert_allclose(archive["logits"], answers, rtol=1e-6)
        assert (archive["mean"], archive["std"]) == (0.5, 0.25)


@pytest.mark.parametrize("out", ["set", "set.npz"])
def test_another_run_learns_from_them(dfad_fast, own, run_of, out):
    run = run_of("bank", *BANK)
    assert dfad_fast("images", "run", "--out", out).code == 0
    source = f"folder(path='{run.parent / out}')"
    read = dfad_fast("distill", *own, "--out", "other", "--source", source, *NORMALIZED, "--method", "dfad")
    assert read.code == 0, read.err
    pixels = load_run("other").source._pixels
    stored = {image.tobytes() for image in as_bytes(bank_images(run)[0])}
    assert {image.tobytes() for image in pixels.numpy()} == stored


def test_some_of_them_are_drawn_by_a_seed(dfad_fast, run_of):
    run = run_of("bank", *BANK)
    everything = {image.tobytes() for image in as_bytes(bank_images(run)[0])}
    drawn = []
    for seed, name in ((0, "a.npz"), (0, "b.npz"), (1, "c.npz")):
        said = dfad_fast("images", "run", "--count", "10", "--seed", seed, "--out", name)
        assert said.out == f"{SAID}10 images from the run's bank: {name}\n"
        with np.load(name) as archive:
            drawn.append(archive["images"])
    assert all({image.tobytes() for image in images} <= everything for images in drawn)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    all_of_them = dfad_fast("images", "run", "--count", "1000", "--out", "all.npz")
    assert all_of_them.out == f"{SAID}96 images from the run's bank: all.npz\n"


def test_a_bank_in_the_runs_folder_is_read_from_there(dfad_fast, run_of):
    run = run_of("on disk", "--source", "bank(fresh, images=64, keep=random)", "--bank-memory", "0")
    files = {path: path.stat().st_mtime_ns for path in (run / "bank").iterdir()}
    said = dfad_fast("images", "run", "--out", "set.npz")
    assert said.out == f"{SAID}64 images from the run's bank: set.npz\n"
    assert files == {path: path.stat().st_mtime_ns for path in (run / "bank").iterdir()}
    with np.load("set.npz") as archive:
        # Without mean and deviation each image has its own range.
        assert (archive["images"].reshape(64, -1).max(1) == 255).all()
        assert "mean" not in archive
    for path in files:
        path.unlink()
    lost = dfad_fast("images", "run", "--out", "other.npz")
    assert (lost.code, "which belongs to the run's bank, cannot be read" in lost.err) == (1, True)


def test_a_run_without_a_bank_has_new_ones_made(dfad_fast, run_of):
    run_of("plain", *NORMALIZED)
    said = dfad_fast("images", "run", "--count", "40", "--out", "some")
    assert said.out == f"{SAID}40 images newly made, since the run kept none: some\n"
    trained = load_run("run")
    images = trained.generated(40, 0)
    pixels, _, logits = read_folder(trained.folder.parent / "some")
    assert np.array_equal(pixels, as_bytes(images))
    with torch.no_grad():
        np.testing.assert_allclose(logits, trained.networks.teacher(images), rtol=1e-4, atol=1e-5)


def test_an_empty_bank_of_optimized_images_gives_each_held_out_image_once(dfad_fast, run_of):
    source = "bank(inverted(steps=2), images=64, prefill=64)"
    run_of(
        "inverted", "--method", "tv-inversion", "--source", source, "--batch-size", "4", "--iterations", "1"
    )
    said = dfad_fast("images", "run", "--out", "some")
    assert said.out == f"{SAID}4 images newly made, since the run kept none: some\n"


def test_no_more_images_than_a_batch_are_held_at_a_time(run_of, monkeypatch):
    run_of("plain", *NORMALIZED)
    trained, held = load_run("run"), []
    monkeypatch.setattr(
        jobs, "_answers", lambda run, images: held.append(len(images)) or torch.zeros(len(images), 3)
    )
    written = jobs.write_images(trained, "many.npz", 3 * trained.batch_size + 1, 0)
    assert held == [*[trained.batch_size] * 3, 1]
    assert written.count == sum(held)


def test_what_is_there_is_left_alone(dfad_fast, run_of, tmp_path):
    run_of("plain", *NORMALIZED)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.png").write_text("not ours")
    (tmp_path / "mine.npz").write_text("not ours")
    for name in ("mine", "mine.npz"):
        refused = dfad_fast("images", "run", "--out", name)
        assert refused.code == 2
        assert f"{name} already exists: give another place with --out, or remove it" in refused.err
    assert (tmp_path / "mine.npz").read_text() == "not ours"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["own.png"]
    assert dfad_fast("images", "run", "--count", "0").code == 2
    assert dfad_fast("images", "nowhere").code == 2


def test_a_full_disk_is_said(dfad_fast, run_of, monkeypatch):
    run_of("plain", *NORMALIZED)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(np, "savez_compressed", full)
    for out, name in (("some", "000000.png"), ("some.npz", "some.npz")):
        failed = dfad_fast("images", "run", "--count", "4", "--out", out)
        assert failed.code == 1
        assert f"{name}: " in failed.err
        assert "No space left on device" in failed.err
