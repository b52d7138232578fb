import json
import shutil

import pytest
import torch

from dfad_fast.jobs.trained_run import load_run
from dfad_fast.runs import checkpoints
from dfad_fast.runs.layout import CHECKPOINT

QUICK = ("--samples", "64")
SAID = "running the code in own.py, as requested\n"


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def own_run(dfad_fast, own, tmp_path, kept_run):
    """A finished run of the user's own networks in the folder run, without any dataset. Made once, then copied."""
    if not kept_run.exists():
        assert dfad_fast("distill", *own, "--quiet").code == 0
        shutil.copytree("run", kept_run)
    return shutil.copytree(kept_run, tmp_path / "run", dirs_exist_ok=True)


def test_digits_from_a_run_to_table_data_and_picture(dfad_fast, tmp_path):
    options = ("--teacher-epochs", "1", "--batch-size", "32", "--latent-dim", "8", "--iterations", "2")
    assert dfad_fast("distill", "--dataset", "digits", *options, "--out", "run", "--quiet").code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    done = dfad_fast("inspect", "run")
    assert done.code == 0, done.err
    assert "run: dfad-ar-vi-bn, seed 0, finished, 2 iterations" in done.out
    for line in ("accuracy, 450 digits test images", "expected calibration error, 15 bins", "linear CKA"):
        assert line in done.out
    assert "classes of 1000 generated images" in done.out
    data = json.loads((tmp_path / "run/inspect.json").read_text())
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert data["teacher"]["accuracy"] == pytest.approx(summary["teacher_accuracy"])
    assert data["student"]["accuracy"] == pytest.approx(summary["student_accuracy_final"])
    assert data["agreement"] == pytest.approx(summary["agreement_final"])
    assert [stage["teacher"] for stage in data["stages"]] == [f"stages.{i}.0.relu2#0" for i in range(3)]
    assert all(0 < stage["sign_agreement"] < 1 for stage in data["stages"])
    assert (tmp_path / "run/inspect.png").stat().st_size > 20_000
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    # The same again, and to another folder.
    assert dfad_fast("inspect", "run/config.yaml", "--out", "again", "--quiet").code == 0
    assert json.loads((tmp_path / "again/inspect.json").read_text()) == data
    # A run that is written over takes its inspection with it.
    again = ("--dataset", "digits", *options, "--out", "run", "--overwrite", "--quiet")
    assert dfad_fast("distill", *again).code == 0
    assert not (tmp_path / "run/inspect.json").exists()
    shutil.rmtree(tmp_path / "runs/teachers")
    done = dfad_fast("inspect", "run")
    assert done.code == 2
    assert "there is no teacher runs/teachers/digits-resnet8-w32-1epochs" in done.err
    assert not (tmp_path / "runs/teachers").exists()


def test_without_a_dataset_generated_images_are_looked_at(dfad_fast, own_run):
    done = dfad_fast("inspect", own_run, *QUICK)
    assert done.code == 0, done.err
    assert done.out.startswith(SAID)
    assert "agreement, 64 generated images" in done.out
    assert (
        "not measured: accuracy and calibration: the run names no dataset; give one with --dataset"
        in done.out
    )
    data = json.loads((own_run / "inspect.json").read_text())
    assert (data["images"], data["teacher"], data["generated"]) == ("generated", None, 64)


def test_an_interrupted_run_is_read_from_its_checkpoint(dfad_fast, own_run, tmp_path):
    checkpoints.save({**checkpoints.read(own_run), "planned_iterations": 5}, own_run / CHECKPOINT)
    assert dfad_fast("inspect", own_run, *QUICK, "--out", "whole", "--quiet").code == 0
    for name in ("student.safetensors", "generator.safetensors", "summary.json"):
        (own_run / name).unlink()
    done = dfad_fast("inspect", own_run, *QUICK, "--out", "killed")
    assert done.code == 0, done.err
    assert "interrupted at iteration 2 of 5" in done.out
    whole, killed = (json.loads((tmp_path / f / "inspect.json").read_text()) for f in ("whole", "killed"))
    assert killed == whole


def test_without_a_checkpoint_the_saved_weights_are_looked_at(dfad_fast, own_run, tmp_path):
    assert dfad_fast("inspect", own_run, *QUICK, "--out", "whole", "--quiet").code == 0
    (own_run / CHECKPOINT).unlink()
    done = dfad_fast("inspect", own_run, *QUICK, "--out", "weights")
    assert done.code == 0, done.err
    assert "at an unknown iteration" in done.out
    assert "not measured: sign agreement of 2#0: the student is narrower there" in done.out
    whole, weights = (json.loads((tmp_path / f / "inspect.json").read_text()) for f in ("whole", "weights"))
    for key in ("agreement", "lines", "balance"):
        assert weights[key] == whole[key]
    (own_run / "generator.safetensors").unlink()
    done = dfad_fast("inspect", own_run, *QUICK)
    assert done.code == 2
    assert "run holds no generator to generate images with" in done.err


def test_connectors_that_no_term_trained_are_not_looked_through(dfad_fast, own):
    assert dfad_fast("distill", *own, "--method", "dfad", "--quiet").code == 0
    done = dfad_fast("inspect", "run", *QUICK)
    assert done.code == 0, done.err
    assert "not measured: sign agreement of 2#0: the student is narrower there" in done.out


def test_networks_are_read_as_they_answer_after_training(own_run):
    networks = load_run(own_run).networks
    assert not any(m.training for n in (networks.teacher, networks.student) for m in n.modules())
    assert not any(m.training for m in networks.connectors.modules())


def test_a_student_that_answers_nan_is_one_line_and_exit_code_1(dfad_fast, own_run):
    state = checkpoints.read(own_run)
    state["weights"]["student"]["5.bias"][0] = float("nan")
    checkpoints.save(state, own_run / CHECKPOINT)
    done = dfad_fast("inspect", own_run, *QUICK)
    assert done.code == 1
    assert "the student returns NaN or inf for" in done.err
    assert done.err.count("\n") == 1
    assert not (own_run / "inspect.json").exists()


def test_data_that_cannot_be_read_stops_only_who_asks_for_it(dfad_fast, own_run):
    config = own_run / "config.yaml"
    config.write_text(config.read_text().replace("evaluate: null", "evaluate: cifar10"))
    done = dfad_fast("inspect", own_run, *QUICK)
    assert done.code == 2
    assert "cifar10 was not found" in done.err
    done = dfad_fast("inspect", own_run, *QUICK, "--images", "generated")
    assert done.code == 0, done.err
    assert "not measured: accuracy and calibration: cifar10 was not found" in done.out


def _no_weights(run):
    for name in (CHECKPOINT, "student.safetensors"):
        (run / name).unlink()


def _other_teacher(run):
    state = torch.load(run.parent / "teacher.pt", weights_only=True)
    torch.save({key: value + 1 for key, value in state.items()}, run.parent / "teacher.pt")


def _no_teacher(run):
    (run.parent / "teacher.pt").unlink()


def _other_student(run):
    file = run.parent / "own.py"
    file.write_text(file.read_text().replace("4", "5"))


def _no_settings(run):
    (run / "config.yaml").write_text("method: dfad\n")


def _made_in_python(run):
    (run / "config.yaml").write_text("method: dfad\nterms: {student: [1 * L1()]}\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "cannot read run: No such file or directory: give a run's folder"),
        (lambda run: (run / "config.yaml").unlink(), "cannot read run/config.yaml"),
        (_no_settings, "run/config.yaml is not a config.yaml of dfad-fast distill"),
        (_made_in_python, "the run of run/config.yaml was made in Python"),
        (_no_weights, "run holds neither checkpoint.pt nor student.safetensors"),
        (_other_teacher, "are not those that the run in run was started with"),
        (_no_teacher, "no weights file teacher.pt"),
        (_other_student, "the checkpoint in run does not fit the networks that its config.yaml names"),
        (lambda run: (run / CHECKPOINT).write_bytes(b"no"), "checkpoint.pt is damaged"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line_and_exit_code_2(dfad_fast, own_run, spoil, message):
    spoil(own_run)
    done = dfad_fast("inspect", "run", *QUICK)
    assert (done.code, done.out.removeprefix(SAID)) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("--samples", "3"), "--samples must be at least 4, got 3", 2),
        (("--bins", "0"), "--bins must be at least 1, got 0", 2),
        (("--seed", "-1"), "--seed must be at least 0, got -1", 2),
        (("--seed", str(2**64)), "--seed must be at most 9223372036854775807, got 18446744073709551616", 2),
        (("--images", "real"), "the run names no dataset: give one with --dataset", 2),
        (("--images", "fake"), "'fake' is not one of 'real', 'generated'", 2),
        (("--dataset", "digts"), "did you mean 'digits'", 2),
        (("--dataset", "digits"), "10 classes, but the teacher takes [1, 8, 8] and knows 3", 2),
        (("--device", "cuda:99"), "device 'cuda:99' cannot be used", 2),
        (("--out", "own.py/there"), "cannot write to folder own.py", 1),
    ],
)
def test_a_wrong_request_is_one_line(dfad_fast, own_run, options, message, code):
    done = dfad_fast("inspect", "run", *QUICK, *options)
    assert done.code == code
    assert message in done.err
    assert done.err.count("\n") == 1


def test_quiet_prints_nothing(dfad_fast, own_run):
    done = dfad_fast("inspect", "run", *QUICK, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("vectors", ["steps=2", "steps=2, vectors=random, lr_noise=0"])
def test_a_generator_that_is_its_sources_own_is_found_again(dfad_fast, own, tmp_path, vectors):
    options = ("--source", f"restarted({vectors})", "--mean", "0.3", "--std", "0.4")
    done = dfad_fast("distill", *own, *options, "--iterations", "1", "--quiet")
    assert done.code == 0, done.err
    run = load_run("run", device="cpu")
    assert hasattr(run.networks.generator, "vectors") == ("random" in vectors)
    images = run.generated(70, 0)
    assert images.min() >= -0.75 - 1e-5
    assert images.max() <= 1.75 + 1e-5
    done = dfad_fast("inspect", "run", *QUICK)
    assert done.code == 0, done.err
    assert "agreement, 64 generated images" in done.out
