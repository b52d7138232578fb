import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from dfad_fast.data import _LOADERS, Dataset
from dfad_fast.errors import UsageError
from dfad_fast.exporting import export
from dfad_fast.exporting.student import Student
from dfad_fast.jobs.trained_run import load_run
from dfad_fast.runs import checkpoints
from dfad_fast.runs.folder import RunFolder
from dfad_fast.runs.layout import CHECKPOINT

QUICK = ("--samples", "70", "--calibration-images", "16")
SAID = "running the code in own.py, as requested\n"
REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def own_run(dfad_fast, own, tmp_path, kept_run):
    """A finished run of the user's own networks in the folder run, without any dataset. Made once, then copied."""
    if not kept_run.exists():
        assert dfad_fast("distill", *own, "--student-ema", "0.5", "--quiet").code == 0
        shutil.copytree("run", kept_run)
    return shutil.copytree(kept_run, tmp_path / "run", dirs_exist_ok=True)


def images(count, seed=0):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def answers(run, x):
    with torch.no_grad():
        return load_run(run, device="cpu").networks.student(x)


def ask_onnx(file, x):
    session = onnxruntime.InferenceSession(file)
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", ["batch", *x.shape[1:]])]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    return torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def metadata_of(file):
    return {prop.key: prop.value for prop in onnx.load(file).metadata_props}


def test_onnx_answers_as_the_student_to_any_number_of_images(dfad_fast, own_run, tmp_path):
    done = dfad_fast("export", "run", "--int8", *QUICK)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(SAID)
    for text in (
        "PyTorch student",
        "onnx, int8",
        "on 70 generated images",
        "calibrated on 16 generated images",
    ):
        assert text in done.out
    assert "no accuracy: the run names no dataset" in done.out
    for count in (1, 5, 130):
        x = images(count)
        torch.testing.assert_close(ask_onnx("run/student.onnx", x), answers("run", x), atol=1e-5, rtol=1e-5)
        assert ask_onnx("run/student_int8.onnx", x).shape == (count, 3)
    expected = {
        "student": "own.py:student",
        "averaged": "false",
        "best": "false",
        "image_shape": "[1, 8, 8]",
        "classes": "3",
        "mean": "null",
        "std": "null",
        "normalization": "the same as for the teacher's images; the run does not record it",
    }
    metadata = metadata_of("run/student.onnx")
    assert {key: metadata[key] for key in expected} == expected
    assert metadata.keys() - expected.keys() == {"dfad_fast", "method"}
    assert metadata_of("run/student_int8.onnx") == {**metadata, "precision": "int8"}
    for name in ("student.onnx", "student_int8.onnx"):
        assert str(tmp_path).encode() not in (own_run / name).read_bytes()


def test_export_json_holds_what_was_measured(dfad_fast, own_run):
    assert dfad_fast("export", "run", "--int8", *QUICK, "--threads", "1", "--quiet").code == 0
    data = json.loads((own_run / "student.onnx.json").read_text())
    assert (data["images"], data["dataset"], data["compared"]) == ("generated", None, 70)
    assert (data["calibration_images"], data["threads"]) == (16, 1)
    assert {"torch", "onnx", "onnxscript", "onnxruntime"} <= data["versions"].keys()
    student, exported, int8 = data["variants"]
    for variant, file in ((exported, "run/student.onnx"), (int8, "run/student_int8.onnx")):
        assert (variant["path"], variant["bytes"]) == (file, (own_run.parent / file).stat().st_size)
        x = load_run("run", device="cpu").generated(70, 0)
        logits, expected = ask_onnx(file, x), answers("run", x)
        assert variant["max_difference"] == pytest.approx((logits - expected).abs().max().item(), abs=1e-5)
        assert variant["agreement"] == (logits.argmax(1) == expected.argmax(1)).double().mean().item()
    assert exported["max_difference"] <= data["allowed_difference"] < int8["max_difference"]
    assert student["max_difference"] == 0
    assert [v["accuracy"] for v in data["variants"]] == [None, None, None]
    assert all(v["latency"][batch]["milliseconds"] > 0 for v in data["variants"] for batch in ("1", "64"))


def test_digits_images_that_are_normalized_as_the_file_says_are_recognized_as_by_the_run(dfad_fast, tmp_path):
    options = ("--teacher-epochs", "1", "--batch-size", "32", "--latent-dim", "8", "--iterations", "4")
    assert dfad_fast("distill", "--dataset", "digits", *options, "--out", "run", "--quiet").code == 0
    done = dfad_fast("export", "run", "--int8")
    assert (done.code, done.err) == (0, "")
    assert "on 450 digits test images" in done.out
    data = json.loads((tmp_path / "run/student.onnx.json").read_text())
    student, exported, int8 = data["variants"]
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert student["accuracy"] == pytest.approx(summary["student_accuracy_final"])

    test_set = load_run("run", device="cpu").test_set
    metadata = metadata_of("run/student_int8.onnx")
    mean, std = (torch.tensor(json.loads(metadata[key])).view(-1, 1, 1) for key in ("mean", "std"))
    x = (test_set.test_images / 255 - mean) / std
    for variant in (exported, int8):
        right = ask_onnx(variant["path"], x).argmax(1) == test_set.test_labels
        assert variant["accuracy"] == pytest.approx(right.double().mean().item(), abs=1e-9)
    assert int8["bytes"] < 0.4 * exported["bytes"]


COMPRESSED = ("--compress", "pruned", "--sparsity", "0.5", "--tuning-steps", "2", "--tuning-images", "16")


def test_a_pruned_student_is_handed_over_and_measured(dfad_fast, own_run):
    before = load_file(own_run / "student.safetensors")
    done = dfad_fast("export", "run", "--format", "safetensors", *COMPRESSED, *QUICK)
    assert (done.code, done.err) == (0, "")
    assert "PyTorch student, pruned" in done.out
    assert "after 2 steps on 16 images" in done.out
    weights = load_file(own_run / "student_pruned_export.safetensors")
    with safe_open(own_run / "student_pruned_export.safetensors", "pt") as file:
        assert file.metadata()["compressed"] == "pruned"
    assert {name: x.shape for name, x in weights.items()} == {name: x.shape for name, x in before.items()}
    compression = json.loads((own_run / "student_pruned_export.safetensors.json").read_text())["compression"]
    assert compression["zeros"] == round(0.5 * compression["weights"])
    assert compression["zeros"] <= sum(int((x == 0).sum()) for x in weights.values())
    assert compression["before"].keys() == compression["after"].keys() == {"agreement"}
    assert same_weights(before, load_file(own_run / "student.safetensors"))


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sparsity", "0.5"), "--sparsity is for --compress: give it"),
        (("--tuning-steps", "5"), "--tuning-steps is for --compress: give it"),
        (("--compress", "binary", "--sparsity", "0.5"), "sparsity is for a pruned student, got binary"),
        (("--compress", "pruned", "--tuning-steps", "-1"), "steps must be at least 0, got -1"),
    ],
)
def test_compressions_that_cannot_be_are_refused(dfad_fast, own_run, options, message):
    done = dfad_fast("export", "run", *options)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_program_of_torch_needs_no_code_and_takes_any_number_of_images(dfad_fast, own_run, tmp_path):
    done = dfad_fast("export", "run", "--format", "torch", *QUICK)
    assert (done.code, done.err) == (0, "")
    (tmp_path / "own.py").rename("moved.py")
    about = {"dfad_fast.json": ""}
    program = torch.export.load(own_run / "student.pt2", extra_files=about).module()
    (tmp_path / "moved.py").rename("own.py")
    for count in (1, 5, 130):
        x = images(count)
        torch.testing.assert_close(program(x), answers("run", x), atol=1e-5, rtol=1e-5)
    assert json.loads(about["dfad_fast.json"])["image_shape"] == "[1, 8, 8]"
    assert str(tmp_path).encode() not in (own_run / "student.pt2").read_bytes()


def test_safetensors_hold_the_weights_and_what_they_belong_to(dfad_fast, own_run):
    done = dfad_fast("export", "run", "--format", "safetensors", *QUICK)
    assert (done.code, done.err) == (0, "")
    file = own_run / "student_export.safetensors"
    torch.testing.assert_close(load_file(file), load_file(own_run / "student.safetensors"), atol=0, rtol=0)
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["student"] == "own.py:student"
        assert opened.metadata()["image_shape"] == "[1, 8, 8]"


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_moving_average_in_the_students_place(dfad_fast, own_run, interrupted):
    average = load_file(own_run / "student_averaged.safetensors")
    (own_run / ("student_averaged.safetensors" if interrupted else CHECKPOINT)).unlink()
    assert dfad_fast("export", "run", "--averaged", "--format", "safetensors", *QUICK, "--quiet").code == 0
    exported = load_file(own_run / "student_averaged_export.safetensors")
    torch.testing.assert_close(exported, average, atol=0, rtol=0)
    assert not torch.equal(average["0.weight"], load_file(own_run / "student.safetensors")["0.weight"])


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_best_student_in_the_last_ones_place(dfad_fast, own_run, interrupted):
    state = checkpoints.read(own_run)
    state["best_student"]["weights"]["0.weight"] += 1
    state["best_student"]["iteration"] = 1
    best = state["best_student"]["weights"]
    if interrupted:
        checkpoints.save(state, own_run / CHECKPOINT)
        (own_run / "student_best.safetensors").unlink()
    else:
        RunFolder(own_run, resume=True).write_weights("student_best.safetensors", best, {"iteration": "1"})
        (own_run / CHECKPOINT).unlink()
    done = dfad_fast("export", "run", "--best", "--format", "safetensors", *QUICK, "--quiet")
    assert done.code == 0, done.err
    file = own_run / "student_best_export.safetensors"
    torch.testing.assert_close(load_file(file), dict(best), atol=0, rtol=0)
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["best"] == "true"
    done = dfad_fast("inspect", "run", "--best", "--samples", "64")
    assert done.code == 0, done.err
    assert "its best student, of iteration 1" in done.out


def test_weights_that_are_newer_than_the_checkpoint_are_taken(dfad_fast, own_run):
    """As where the disk was full when the run ended."""
    newer = {key: value + 1 for key, value in load_file(own_run / "student.safetensors").items()}
    RunFolder(own_run, resume=True).write_weights("student.safetensors", newer, {"iteration": "3"})
    done = dfad_fast("export", "run", "--format", "safetensors", *QUICK, "--quiet")
    assert done.code == 0, done.err
    assert (
        "the checkpoint in run is older than student.safetensors, so the weights files are used" in done.err
    )
    torch.testing.assert_close(load_file(own_run / "student_export.safetensors"), newer, atol=0, rtol=0)


def _without_average(run):
    state = checkpoints.read(run)
    del state["weights"]["averaged_student"]
    checkpoints.save(state, run / CHECKPOINT)


def _without_checkpoint_and_average(run):
    (run / CHECKPOINT).unlink()
    (run / "student_averaged.safetensors").unlink()


@pytest.mark.parametrize("spoil", [_without_average, _without_checkpoint_and_average])
def test_a_moving_average_that_the_run_did_not_keep(dfad_fast, own_run, spoil):
    spoil(own_run)
    done = dfad_fast("export", "run", "--averaged", *QUICK)
    assert (done.code, done.out) == (2, SAID)
    assert "the run in run kept no moving average of its student: leave --averaged out" in done.err


def test_a_best_student_that_the_run_did_not_keep(dfad_fast, own_run):
    state = checkpoints.read(own_run)
    del state["best_student"]  # as in those of older versions
    checkpoints.save(state, own_run / CHECKPOINT)
    done = dfad_fast("export", "run", "--best", *QUICK)
    assert (done.code, done.out) == (2, SAID)
    assert "the run in run kept no best student" in done.err


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("--format", "tflite"), "'tflite' is not one of 'onnx', 'torch', 'safetensors'", 2),
        (("--format", "torch", "--int8"), "--int8 is for --format onnx, got --format torch", 2),
        (("--format", "safetensors", "--int8"), "--int8 is for --format onnx, got --format safetensors", 2),
        (
            ("--averaged", "--best"),
            "--averaged and --best select different students: give only one of them",
            2,
        ),
        (("--samples", "0"), "--samples must be at least 1, got 0", 2),
        (("--samples", f"1{'0' * 20}"), "--samples must be at most 1000000, got 1000", 2),
        (("--calibration-images", "0"), "--calibration-images must be at least 1, got 0", 2),
        (("--out", "student.pt2"), "--out is a file NAME.onnx for --format onnx, got student.pt2", 2),
        (("--out", "own.py/there.onnx"), "cannot write to folder own.py", 1),
        (("--dataset", "digts"), "did you mean 'digits'", 2),
        (("--dataset", "digits"), "10 classes, but the teacher takes [1, 8, 8] and knows 3", 2),
        (("--threads", "0"), "--threads must be at least 1, got 0", 2),
    ],
)
def test_a_wrong_request_is_one_line(dfad_fast, own_run, options, message, code):
    before = sorted(own_run.iterdir())
    done = dfad_fast("export", "run", *options)
    assert (done.code, done.out.removeprefix(SAID)) == (code, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert sorted(own_run.iterdir()) == before


def test_a_run_that_is_not_there(dfad_fast):
    done = dfad_fast("export", "nowhere")
    assert done.code == 2
    assert "cannot read nowhere: No such file or directory: give a run's folder" in done.err


def test_files_that_are_there_are_written_over_only_if_told_so(dfad_fast, own_run):
    weights = ("--format", "safetensors", *QUICK, "--quiet")
    (own_run / "student_export.safetensors").write_text("mine")
    done = dfad_fast("export", "run", *weights)
    assert done.code == 2
    assert "there is run/student_export.safetensors already" in done.err
    assert (own_run / "student_export.safetensors").read_text() == "mine"
    assert dfad_fast("export", "run", *weights, "--overwrite").code == 0
    assert "0.weight" in load_file(own_run / "student_export.safetensors")
    (own_run / "student_export.safetensors").unlink()
    done = dfad_fast("export", "run", *weights)
    assert done.code == 2
    assert "there is run/student_export.safetensors.json already" in done.err
    (own_run / "student_int8.onnx").write_text("mine")
    done = dfad_fast("export", "run", "--int8", *QUICK)
    assert (done.code, (own_run / "student.onnx").exists()) == (2, False)
    # With its run.
    RunFolder(own_run, overwrite=True)
    assert not list(own_run.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named_before_anything_is_read(dfad_fast, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    done = dfad_fast("export", "nowhere")
    assert done.code == 2
    assert f"import of {package} halted" in done.err
    assert done.err.endswith("pip install dfad-fast[onnx]\n")


def test_weights_need_none_of_these_packages(dfad_fast, own_run, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    done = dfad_fast("export", "run", "--format", "safetensors", *QUICK, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_without_a_generator(dfad_fast, own_run):
    for name in (CHECKPOINT, "generator.safetensors"):
        (own_run / name).unlink()
    done = dfad_fast("export", "run", "--int8")
    assert done.code == 2
    assert "run holds no generator to calibrate --int8 with" in done.err
    done = dfad_fast("export", "run")
    assert done.code == 2
    assert "there are no test images to check a file on (the run names no dataset" in done.err


def test_a_student_that_answers_nan_is_not_exported(dfad_fast, own_run):
    state = checkpoints.read(own_run)
    state["weights"]["student"]["5.bias"][0] = float("nan")
    checkpoints.save(state, own_run / CHECKPOINT)
    done = dfad_fast("export", "run", *QUICK)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "the student returns NaN or inf, so nothing is exported" in done.err
    assert not (own_run / "student.onnx").exists()


NOT_EXPORTABLE = """

import torch

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)

class Branching(Plain):
    def forward(self, x):
        return self.linear(x.flatten(1) if x.sum() > 0 else -x.flatten(1))

class Eigenvalues(Plain):
    def forward(self, x):
        x = x[:, 0] + x[:, 0].transpose(1, 2)
        return self.linear(torch.linalg.eigh(x)[1].abs().flatten(1))

class Hidden(Plain):
    def __init__(self):
        super().__init__()
        self.mask = torch.rand(64)
    def forward(self, x):
        return self.linear(x.flatten(1) * self.mask)
"""


@pytest.mark.parametrize(
    ("student", "format", "message"),
    [
        ("Branching", "onnx", "torch.export cannot export the student (Could not guard on data-dependent"),
        ("Branching", "torch", "torch.export cannot export the student (Could not guard on data-dependent"),
        ("Eigenvalues", "onnx", "torch.onnx cannot export the student (No ONNX function found for"),
        ("Hidden", "safetensors", "student_export.safetensors was exported, but does not match the student"),
    ],
)
def test_a_network_that_cannot_be_handed_over_is_one_line(dfad_fast, own, tmp_path, student, format, message):
    with (tmp_path / "own.py").open("a") as file:
        file.write(NOT_EXPORTABLE)
    own[own.index("own.py:student")] = f"own.py:{student}"
    assert dfad_fast("distill", *own, "--method", "dfad", "--quiet").code == 0
    before = sorted((tmp_path / "run").iterdir())
    done = dfad_fast("export", "run", "--format", format, *QUICK)
    assert (done.code, done.out, done.err.count("\n")) == (1, SAID, 1)
    assert message in done.err
    assert sorted((tmp_path / "run").iterdir()) == before


def _other_weights(model):
    weight = next(t for t in model.graph.initializer if t.name.endswith("weight"))
    weight.raw_data = bytes(reversed(weight.raw_data[-4:])) + weight.raw_data[4:]


def _other_name(model):
    model.graph.output[0].name = "answers"


def _torn(model):
    del model.graph.node[-1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            _other_weights,
            "student.onnx was exported, but does not match the student: the logits differ by",
        ),
        (_other_name, "student.onnx was exported, but cannot be run ("),
        (_torn, "student.onnx was exported, but cannot be run ("),
    ],
)
def test_a_damaged_model_is_noticed_and_not_kept(dfad_fast, own_run, monkeypatch, damage, message):
    def save(model, path):
        damage(model)
        path.write_bytes(model.SerializeToString())

    monkeypatch.setattr("onnx.save", save)
    before = sorted(own_run.iterdir())
    done = dfad_fast("export", "run", *QUICK)
    assert (done.code, done.out, done.err.count("\n")) == (1, SAID, 1)
    assert message in done.err
    assert sorted(own_run.iterdir()) == before


def test_nothing_but_the_table_is_on_the_terminal(own_run, tmp_path):
    """In a process of its own, since onnxruntime's C++ prints past Python."""
    command = [sys.executable, "-m", "dfad_fast", "export", "run", "--int8", *QUICK]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1].split()[:2] == ["size", "difference"]
    assert lines[-1] == "the same as JSON: run/student.onnx.json"


def test_from_python(own_run):
    torch.manual_seed(0)
    result = export("run", "safetensors", out="mine/net.safetensors", samples=70)
    assert [variant.path for variant in result.variants] == [None, "mine/net.safetensors"]
    assert json.loads((own_run.parent / "mine/net.safetensors.json").read_text()) == json.loads(
        json.dumps(result.as_data())
    )
    with pytest.raises(UsageError, match="did you mean 'onnx'"):
        export("run", "onx")


def test_what_the_packages_cannot_write_is_one_line(dfad_fast, own_run, monkeypatch):
    def too_large(*_, **__):
        raise ValueError("more than 2 GB\ncannot be written")

    monkeypatch.setattr("onnx.save", too_large)
    monkeypatch.setattr("torch.export.save", too_large)
    for format, what in (("onnx", "onnx"), ("torch", "torch.export")):
        done = dfad_fast("export", "run", "--format", format, *QUICK)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert f"{what} cannot export the student (more than 2 GB cannot be written)" in done.err


def test_without_the_file_in_8_bits_the_other_one_is_told_of(dfad_fast, own_run, monkeypatch):
    def answers_nan(images):
        return torch.full((len(images), 3), float("nan"))

    monkeypatch.setattr("dfad_fast.exporting.exporting.read_onnx", lambda _: answers_nan)
    done = dfad_fast("export", "run", "--int8", *QUICK)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert (
        "student_int8.onnx was exported, but returns NaN or inf, so it is not kept: leave --int8 out"
        in done.err
    )
    assert "run/student.onnx was written" in done.err
    assert not (own_run / "student_int8.onnx").exists()
    data = json.loads((own_run / "student.onnx.json").read_text())
    assert [variant["path"] for variant in data["variants"]] == [None, "run/student.onnx"]
    assert data["calibration_images"] is None
    assert "onnx: run/student.onnx" in done.out
    assert "calibrated" not in done.out


def tiny(name, mean):
    """A dataset of the kind that the user's own networks take."""
    images, labels = torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.arange(5) % 3
    return Dataset(name, images, labels, images, labels, ("a", "b", "c"), (mean,), (0.5,))


@pytest.mark.parametrize(
    ("recorded", "mean", "shown_by"),
    [
        ({}, None, 0.4),
        ({"evaluate": "first"}, [0.1], 0.1),
        ({"dataset": "first"}, [0.1], 0.1),
        ({"dataset": "first", "evaluate": "other"}, [0.1], 0.1),
        ({"evaluate": "first", "mean": [0.2]}, [0.2], 0.2),
        ({"evaluate": "gone"}, None, 0.4),
    ],
)
def test_images_are_normalized_as_the_run_says_whatever_dataset_is_looked_at(
    own_run, monkeypatch, recorded, mean, shown_by
):
    for name, value in (("first", 0.1), ("other", 0.4)):
        monkeypatch.setitem(_LOADERS, name, lambda _, name=name, value=value: tiny(name, value))
    config = yaml.safe_load((own_run / "config.yaml").read_text())
    config["distill"] |= {"student": str(own_run.parent / "own.py:student"), **recorded}
    (own_run / "config.yaml").write_text(yaml.safe_dump(config | {"batch_size": 12}))
    run = load_run(own_run, "other", device="cpu")
    assert (run.test_set.name, run.test_set.mean) == ("other", (shown_by,))
    metadata = Student(run, averaged=False, best=False).metadata()
    assert json.loads(metadata["mean"]) == mean
    assert metadata["student"] == "own.py:student"
    assert run.batch_size == 12  # of all processes, which the options need not say


def test_a_disk_that_is_full(dfad_fast, own_run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx.save", full)
    done = dfad_fast("export", "run", *QUICK)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "cannot write run/student.onnx: [Errno 28] No space left on device" in done.err
    assert not (own_run / "student.onnx").exists()
