import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

SMALL = ("--batch-size", "32", "--latent-dim", "8", "--iterations", "2")


def with_option(arguments, name, value):
    arguments = list(arguments)
    if name in arguments:
        arguments[arguments.index(name) + 1] = value
    else:
        arguments += [name, value]
    return arguments


def test_digits_from_teacher_to_table(dfad_fast, tmp_path, monkeypatch):
    done = dfad_fast("distill", "--dataset", "digits", "--teacher-epochs", "1", *SMALL)
    assert done.code == 0, done.err
    assert "method: dfad-ar-vi-bn, since the teacher has batch norm layers" in done.out
    assert "tap: stages.0.0.relu2#0 [32, 8, 8] <- stages.0.0.relu2#0 [16, 8, 8]" in done.out
    assert "test accuracy, final" in done.out
    assert "Everything is in runs/digits-auto-seed0" in done.out
    summary = json.loads((tmp_path / "runs/digits-auto-seed0/summary.json").read_text())
    assert summary["generated_images"] == 2 * 6 * 32
    assert 0.2 < summary["student_parameters"] / summary["teacher_parameters"] < 0.3
    # A second run takes the teacher as it is.
    again = dfad_fast("distill", "--dataset", "digits", "--teacher-epochs", "1", *SMALL, "--out", "again")
    assert again.code == 0
    assert "(trained before)" in again.out
    # Nor is another one trained where its settings are taken from elsewhere.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    repeated = dfad_fast("distill", "--config", tmp_path / "again", "--out", "run")
    assert repeated.code == 0, repeated.err
    assert "(trained before)" in repeated.out
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["run"]


def test_an_own_teacher_without_any_dataset(dfad_fast, own, tmp_path):
    done = dfad_fast("distill", *own, "--mean", "0.5", "--std", "0.25")
    assert done.code == 0, done.err
    assert "sign agreement, 2#0" in done.out
    assert "test accuracy" not in done.out
    assert "classes of these images" in done.out
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    best = summary["best_student"]["iteration"]
    assert "agreement of the best student" in done.out
    assert (
        f"student_best.safetensors     the best one's, iteration {best} by agreement per class on" in done.out
    )
    assert f"{summary['classes_generated']} of 3 (effectively" in done.out
    assert summary["teacher_accuracy"] is None
    assert 0 <= summary["agreement_generated"] <= 1
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["distill"]["teacher"] == f"{tmp_path}/own.py:teacher"
    assert len(config["teacher_weights_sha256"]) == 64


def test_a_run_is_repeated_from_its_config(dfad_fast, own, tmp_path):
    from safetensors.torch import load_file

    assert dfad_fast("distill", *own, "--seed", "3").code == 0
    done = dfad_fast("distill", "--config", "run/config.yaml", "--out", "repeated")
    assert done.code == 0, done.err
    first, second = (load_file(tmp_path / name / "student.safetensors") for name in ("run", "repeated"))
    assert all(bool((first[key] == second[key]).all()) for key in first)


def test_a_folder_of_images_is_repeated_from_elsewhere(dfad_fast, own, tmp_path, monkeypatch):
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(0).random((40, 8, 8)))
    done = dfad_fast("distill", *own, "--source", "folder(path='images.npz')")
    assert done.code == 0, done.err
    assert "images.npz: 40 images, 4 of them held out; the teacher sees effectively" in done.out
    assert "method: dfad-ar-vi-bn, since the teacher has batch norm layers" in done.out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = dfad_fast("distill", "--config", tmp_path / "run", "--out", "again")
    assert again.code == 0, again.err
    first, second = (tmp_path / run / "student.safetensors" for run in ("run", "elsewhere/again"))
    assert first.read_bytes() == second.read_bytes()


def test_own_test_images_are_found_again_from_elsewhere(dfad_fast, own, tmp_path, monkeypatch):
    images, labels = np.random.default_rng(0).random((30, 8, 8)), np.arange(30) % 3
    np.savez(tmp_path / "test.npz", images=images, labels=labels)
    done = dfad_fast("distill", *own, "--mean", ".5", "--std", ".25", "--evaluate", "test.npz")
    assert done.code == 0, done.err
    accuracy = json.loads((tmp_path / "run" / "summary.json").read_text())["student_accuracy_final"]
    assert 0 <= accuracy <= 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = dfad_fast("distill", "--config", tmp_path / "run", "--out", "again")
    assert again.code == 0, again.err
    repeated = json.loads((tmp_path / "elsewhere" / "again" / "summary.json").read_text())
    assert repeated["student_accuracy_final"] == accuracy
    shown = dfad_fast("inspect", tmp_path / "run")
    assert shown.code == 0, shown.err
    assert f"{100 * accuracy:.2f} %" in shown.out


def test_own_test_images_may_lie_in_a_folder_named_like_a_dataset(dfad_fast, own, tmp_path):
    from PIL import Image

    for name in "abc":
        (tmp_path / "digits" / name).mkdir(parents=True)
        for index in range(2):
            Image.new("L", (8, 8), 9).save(tmp_path / "digits" / name / f"{index}.png")
    done = dfad_fast("distill", *own, "--mean", ".5", "--std", ".25", "--evaluate", "./digits")
    assert done.code == 0, done.err
    shown = dfad_fast("inspect", tmp_path / "run")
    assert shown.code == 0, shown.err
    assert "450" not in shown.out
    again = dfad_fast("distill", "--config", "run", "--out", "again")
    assert again.code == 0, again.err
    recorded = yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())
    assert recorded["distill"]["evaluate"] == str(tmp_path / "digits")


def test_levers_are_recorded_and_repeated(dfad_fast, own, tmp_path):
    import yaml

    chosen = ("--speed", "fast", "--lever", "winograd=off", "--lever", "student_batches=1")
    assert dfad_fast("distill", *own, *chosen).code == 0
    assert dfad_fast("distill", "--config", "run", "--out", "repeated").code == 0
    for folder in ("run", "repeated"):
        levers = yaml.safe_load((tmp_path / folder / "config.yaml").read_text())["levers"]
        assert (levers["winograd"], levers["student_batches"], levers["fold_teacher"]) == (False, 1, True)


def test_what_was_measured_is_repeated(dfad_fast, own, tmp_path, monkeypatch):
    import yaml

    from dfad_fast.networks.levers import with_changes

    def measured(found):
        monkeypatch.setattr(
            "dfad_fast.engine.setup.with_measured",
            lambda levers, *_: (
                with_changes(levers, (f"teacher_precision={found}",))
                if levers.teacher_precision == "measured"
                else levers
            ),
        )

    measured("bfloat16")
    assert dfad_fast("distill", *own, "--lever", "teacher_precision=measured").code == 0
    measured("same")
    assert dfad_fast("distill", "--config", "run", "--out", "repeated").code == 0
    for folder in ("run", "repeated"):
        levers = yaml.safe_load((tmp_path / folder / "config.yaml").read_text())["levers"]
        assert levers["teacher_precision"] == "bfloat16"


def test_own_terms_replace_the_methods_and_are_repeated(dfad_fast, own, tmp_path):
    terms = (
        "--student-terms",
        "kl(temperature=4) + 0.5*hint(schedule=cosine)",
        "--generator-terms",
        "-l1 + balance",
    )
    assert dfad_fast("distill", *own, *terms).code == 0
    done = dfad_fast("distill", "--config", "run", "--out", "repeated")
    assert done.code == 0, done.err
    for folder in ("run", "repeated"):
        tables = yaml.safe_load((tmp_path / folder / "config.yaml").read_text())["terms"]
        assert [row.split(" (")[0] for row in tables["generator"]] == ["-1 * L1()", "1 * ClassBalance()"]
        assert tables["student"][1] == "0.5 * Hint(stage=-1) (cosine)"
    losses = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert {"student/kl", "student/hint", "generator/l1", "generator/balance"} <= set(losses)


def test_minutes_are_counted_in_iterations_without_a_trace(dfad_fast, own, tmp_path, monkeypatch):
    monkeypatch.setattr("dfad_fast.jobs.pace._SECONDS_WATCHED", 0.05)
    at = own.index("--iterations")
    done = dfad_fast("distill", *own[:at], *own[at + 2 :], "--minutes", "0.002")
    assert done.code == 0, done.err
    settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["distill"]
    assert settings["minutes"] is None
    assert f"0.002 minutes: about {settings['iterations']} iterations here" in done.out
    count = ("--iterations", str(settings["iterations"]), "--out", "counted")
    assert dfad_fast("distill", *own[:at], *own[at + 2 :], *count).code == 0
    first, second = (tmp_path / run / "student.safetensors" for run in ("run", "counted"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("method", "iterations"), [("dfad", 3), ("dafl", 20)])
def test_a_run_is_as_long_as_its_images(dfad_fast, own, tmp_path, method, iterations):
    arguments = [x for x in own if x != "--iterations"]
    arguments.pop(own.index("--iterations"))
    batch = int(own[own.index("--batch-size") + 1])
    done = dfad_fast("distill", *arguments, "--method", method, "--images", str(20 * batch))
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/summary.json").read_text())["iterations"] == iterations
    assert dfad_fast("distill", "--config", "run", "--out", "repeated").code == 0
    assert json.loads((tmp_path / "repeated/summary.json").read_text())["iterations"] == iterations
    done = dfad_fast("distill", "--config", "run", "--out", "shorter", "--iterations", "1")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "shorter/summary.json").read_text())["iterations"] == 1


def test_the_plugin_of_the_tutorial_is_known_and_repeated(dfad_fast, own, tmp_path, plugins_forgotten):
    tutorial = (Path(__file__).parents[2] / "docs/tutorials/extending.md").read_text()
    (tmp_path / "own_terms.py").write_text(
        tutorial.split("```python\n# own.py")[1].split("```")[0].split("\n", 1)[1]
    )
    chosen = ("--plugin", "own_terms.py", "--method", "own", "--generator-terms", "-l1 + cosine(scale=0.5)")
    done = dfad_fast("distill", *own, *chosen)
    assert done.code == 0, done.err
    assert "method: own" in done.out
    plugins_forgotten()
    done = dfad_fast("distill", "--config", "run", "--out", "repeated")
    assert done.code == 0, done.err
    tables = yaml.safe_load((tmp_path / "repeated/config.yaml").read_text())["terms"]
    assert tables["generator"][1] == "1 * Cosine(scale=0.5) (constant)"
    plugins_forgotten()
    done = dfad_fast("inspect", "run", "--samples", "32")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "holds no Term or SourceSpec class and no Method"),
        ("1 / 0", "could not be imported: ZeroDivisionError"),
        (
            "from dfad_fast.terms import Term\nclass Own(Term):\n    name = 'l1'",
            "'l1' is already a term of dfad_fast: choose another name",
        ),
    ],
)
def test_a_plugin_that_is_none_is_one_line(dfad_fast, own, tmp_path, code, message):
    (tmp_path / "bad.py").write_text(code)
    done = dfad_fast("distill", *own, "--plugin", "bad.py")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


def test_an_averaged_student_is_saved_and_repeated(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own, "--student-ema", "0.5").code == 0
    assert dfad_fast("distill", "--config", "run", "--out", "repeated").code == 0
    saved = [tmp_path / name / "student_averaged.safetensors" for name in ("run", "repeated")]
    assert saved[0].read_bytes() == saved[1].read_bytes()
    assert saved[0].read_bytes() != (tmp_path / "run/student.safetensors").read_bytes()


def test_rehearsal_is_repeated(dfad_fast, own, tmp_path):
    options = ["--replay", "2", "--generator-ema", "0.9"]
    assert dfad_fast("distill", *own, *options).code == 0
    assert dfad_fast("distill", "--config", "run", "--out", "repeated").code == 0
    saved = [tmp_path / name / "student.safetensors" for name in ("run", "repeated")]
    assert saved[0].read_bytes() == saved[1].read_bytes()


def test_quiet_prints_nothing(dfad_fast, own):
    done = dfad_fast("distill", *own, "--quiet")
    assert (done.code, done.out) == (0, "")
    # A warning: this teacher was never trained.
    assert [line.split(" in ")[0] for line in done.err.splitlines()] == [
        "dfad-fast: the teacher sees class 1"
    ]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--student", "own.py:five_classes", "the student answers with 5 classes and the teacher with 3"),
        ("--teacher", "own.py:features", "do not fit the teacher: missing: bias, weight; unexpected: 0.bias"),
        ("--image-shape", "3,8,8", "the teacher cannot take images of shape [3, 8, 8]"),
        ("--image-shape", "8,8", "the image shape must be CHANNELS,HEIGHT,WIDTH"),
        ("--image-shape", "-1,8,8", "each at least 1"),
        ("--seed", "-1", "--seed must be at least 0"),
        ("--classes", "-1", "--classes must be at least 2"),
        ("--device", "meta", "device 'meta' cannot be used"),
        ("--teacher", "own.py", "name the function in it"),
        ("--taps-teacher", "2,2#0", "is named twice"),
        ("--image-shape", "a,b,c", "expected integers separated by commas"),
        ("--method", "dfad-ar-v", "did you mean 'dfad-ar-vi'"),
        ("--student", "resnet57", "did you mean 'resnet56'"),
        ("--generator", "dfda", "did you mean 'dfad'"),
        ("--recipe", "publishd", "did you mean 'published'"),
        ("--evaluate", "digts", "did you mean 'digits'"),
        ("--evaluate", "no/images", "no file or folder no/images: give a folder of test images"),
        ("--evaluate", "digits", "10 classes, but the teacher takes [1, 8, 8] and knows 3"),
        ("--iterations", "0", "--iterations must be at least 1, got 0"),
        ("--iterations", "-5", "--iterations must be at least 1, got -5"),
        ("--iterations", f"1{'0' * 30}", "--iterations must be at most 9223372036854775807, got 1000"),
        ("--seed", str(2**63), "--seed must be at most 9223372036854775807, got 9223372036854775808"),
        ("--teacher-seed", "-1", "--teacher-seed must be at least 0, got -1"),
        ("--latent-dim", f"1{'0' * 12}", "--latent-dim must be at most 1000000, got 1000000000000"),
        ("--batch-size", f"1{'0' * 12}", "--batch-size must be at most 10000000, got 1000000000000"),
        ("--threads", "1000000", "--threads must be at most 1024, got 1000000"),
        ("--keep-checkpoints", f"1{'0' * 12}", "--keep-checkpoints must be at most 1000"),
        ("--checkpoint-seconds", "nan", "--checkpoint-seconds must be at least 0, got nan"),
        ("--process-timeout", "1e30", "--process-timeout must be at most 100000000"),
        ("--student-lr", "inf", "--student-lr must be at most"),
        ("--images", "100", "--iterations and --images both set the length of the run"),
        ("--minutes", "2", "--iterations and --minutes both set the length of the run"),
        ("--minutes", "0", "--minutes must be > 0, got 0"),
        ("--iterations", "many", "'many' is not a valid integer"),
        ("--batch-size", "1", "--batch-size must be at least 2, got 1"),
        ("--student-lr", "0", "--student-lr must be > 0, got 0"),
        ("--device", "cuda:99", "device 'cuda:99' cannot be used"),
        ("--threads", "0", "--threads must be at least 1"),
        ("--teacher-weights", "gone.pt", "no weights file gone.pt"),
        ("--taps-teacher", "nowhere", "unknown submodule to tap 'nowhere'"),
        ("--std", "0", "mean and std must be given together"),
        ("--config", "gone.yaml", "cannot read gone.yaml"),
        ("--methd", "dfad", "No such option"),
        ("--student-ema", "1", "--student-ema must be at least 0 and less than 1, got 1"),
        ("--replay", "-1", "--replay must be at least 0 batches, got -1"),
        ("--generator-ema", "1", "--generator-ema must be at least 0 and less than 1, got 1"),
        ("--student-terms", "l1 + manifold(stage=layr)", "unknown stage of the student 'layr'"),
        ("--speed", "fats", "did you mean 'fast'"),
        ("--lever", "winogrd=on", "did you mean 'winograd'"),
        ("--lever", "winograd", "lever winograd: expected on or off, got ''"),
        ("--lever", "graph=on", "graph needs a GPU"),
        ("--student-terms", "l1 + bondary", "unknown term 'bondary': did you mean 'boundary'"),
        ("--generator-terms", "-l1 +", "cannot read the terms '-l1 +'"),
        ("--student-terms", "hint(stage=9)", "there is no stage 9"),
        ("--student-terms", "one_hot + balance", "none of the student's terms reads the student's answers"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(dfad_fast, own, tmp_path, option, value, message):
    done = dfad_fast("distill", *with_option(own, option, value))
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("dfad-fast: ")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_answers_features_is_refused(dfad_fast, own):
    arguments = [a for a in own if a not in ("--teacher-weights", "teacher.pt")]
    done = dfad_fast("distill", *with_option(arguments, "--teacher", "own.py:features"))
    assert done.code == 2
    assert (
        "must map images [B, C, H, W] to logits [B, classes]; for 2 images it returned [2, 3, 6, 6]"
        in done.err
    )


def test_a_loss_that_is_nan_fails_the_run(dfad_fast, own, tmp_path):
    arguments = [a for a in own if a not in ("--teacher-weights", "teacher.pt")]
    done = dfad_fast(
        "distill", *with_option(arguments, "--teacher", "own.py:answers_nan"), "--method", "dfad"
    )
    assert done.code == 1
    assert "student/l1 is not finite at iteration 1" in done.err
    assert (tmp_path / "run/student.safetensors").exists()


def test_a_folder_with_another_run_is_kept_unless_told(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own).code == 0
    kept = (tmp_path / "run/student.safetensors").read_bytes()
    refused = dfad_fast("distill", *own, "--seed", "1")
    assert refused.code == 2
    assert "run holds another run" in refused.err
    assert (tmp_path / "run/student.safetensors").read_bytes() == kept
    assert dfad_fast("distill", *own, "--seed", "1", "--overwrite").code == 0
    assert (tmp_path / "run/student.safetensors").read_bytes() != kept


def test_a_folder_that_cannot_be_made_is_a_failure(dfad_fast, own, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = dfad_fast("distill", *with_option(own, "--out", "file/run"))
    assert done.code == 1
    assert "cannot write to folder file/run" in done.err


def test_missing_data_says_how_to_get_it(dfad_fast):
    done = dfad_fast("distill", "--dataset", "cifar10", "--data-dir", ".")
    assert done.code == 2
    assert "cifar-10" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no teacher: give --teacher"),
        (("--teacher", "own.py:teacher"), "--image-shape"),
        (("--teacher", "resnet8-w32", "--image-shape", "1,8,8"), "--classes N"),
        (("--teacher", "own.py:teacher", "--image-shape", "1,8,8"), "no student"),
        (("--dataset", "digits", "--teacher-weights", "teacher.pt"), "--teacher-weights needs --teacher"),
    ],
)
def test_what_is_missing_is_named(dfad_fast, own, arguments, message):
    done = dfad_fast("distill", *arguments)
    assert done.code == 2
    assert message in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_everything_and_resume_goes_on(dfad_fast, own, tmp_path, number):
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "dfad_fast", "distill"),
            *with_option(own, "--iterations", "1000000"),
            *("--checkpoint-iterations", "1"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    config = tmp_path / "run/config.yaml"
    for _ in range(600):
        if (tmp_path / "run/checkpoint-1.pt").exists():
            break
        time.sleep(0.1)
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "Traceback" not in err
    assert "resume with dfad-fast resume run" in err
    reached = json.loads((tmp_path / "run/summary.json").read_text())["iterations"]
    assert reached >= 1
    assert f"interrupted at iteration {reached} of 1000000" in err
    # What the message says to do works. Only the end is brought near, not to wait for a million iterations.
    config.write_text(config.read_text().replace("1000000", str(reached + 2)))
    resumed = dfad_fast("resume", "run")
    assert resumed.code == 0, resumed.err
    assert f"resuming from iteration {reached}" in resumed.out
    assert json.loads((tmp_path / "run/summary.json").read_text())["iterations"] == reached + 2


def test_a_finished_run_is_not_resumed(dfad_fast, own):
    assert dfad_fast("distill", *own).code == 0
    finished = dfad_fast("resume", "run/config.yaml")
    assert finished.code == 2
    assert "run is complete, with 2 iterations" in finished.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("student", "does not fit these networks"),
        ("teacher", "are not those that the run in run was started with"),
    ],
)
def test_a_run_is_not_resumed_with_other_networks(dfad_fast, own, tmp_path, change, message):
    import torch

    assert dfad_fast("distill", *own).code == 0
    if change == "student":
        text = (tmp_path / "own.py").read_text()
        (tmp_path / "own.py").write_text(
            text.replace("Conv2d(1, 4, 3", "Conv2d(1, 5, 3").replace("d(4)", "d(5)")
        )
        (tmp_path / "own.py").write_text(
            (tmp_path / "own.py").read_text().replace("Linear(4, 3)", "Linear(5, 3)")
        )
    else:
        state = torch.load(tmp_path / "teacher.pt", weights_only=True)
        torch.save({key: value + 1 for key, value in state.items()}, tmp_path / "teacher.pt")
    refused = dfad_fast("resume", "run")
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", -3, "batch_size must be at least 2, got -3"),
        ("seed", 2**64, "seed must be at most 9223372036854775807, got 18446744073709551616"),
        ("batch_size", "many", "batch_size is 'many', expected int"),
        ("latent_dim", True, "latent_dim is True, expected int"),
        ("student_lr", float("nan"), "student_lr must be > 0, got nan"),
        ("method", "dfda", "unknown method 'dfda': did you mean"),
        ("recipe", "sdg", "unknown recipe 'sdg': did you mean 'sgd'"),
        ("dataset", "digts", "dataset: unknown dataset 'digts': did you mean 'digits'"),
        ("log", ["csv", "cvs"], "log: unknown logger 'cvs': did you mean 'csv'"),
        ("image_shape", [1, 8], "each at least 1, such as 3,32,32; got [1, 8]"),
        ("batchsize", 8, "distill does not know: batchsize: 8; did you mean 'batch_size'?"),
    ],
)
def test_a_wrong_value_in_a_config_is_named_with_its_file(dfad_fast, tmp_path, name, value, message):
    settings = {"teacher": "own.py:teacher", "student": "own.py:student", name: value}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"distill": settings}))
    for command in (("distill", "--config", "config.yaml", "--out", "run"), ("resume", ".")):
        done = dfad_fast(*command)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert done.err.startswith("dfad-fast: config.yaml")
        assert message in done.err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["distill: [1]", "distill: {nonsense: 1}", "other: 1", "]", ""])
def test_a_config_that_is_none_is_refused_in_one_line(dfad_fast, tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    done = dfad_fast("distill", "--config", "config.yaml")
    assert done.code == 2
    assert "config.yaml" in done.err
    assert done.err.count("\n") == 1


def test_a_folder_named_like_markup_is_only_a_name(dfad_fast, own, tmp_path):
    done = dfad_fast("distill", *with_option(own, "--out", "z[red]y"))
    assert done.code == 0, done.err
    assert "Everything is in z[red]y:" in done.out


def test_without_arguments_it_shows_what_it_can_do(dfad_fast):
    done = dfad_fast()
    assert done.code == 2
    assert "distill" in done.out


def test_resume_of_what_is_no_run_is_refused(dfad_fast, own, tmp_path):
    assert "cannot read nowhere" in dfad_fast("resume", "nowhere").err
    assert dfad_fast("distill", *own).code == 0
    (tmp_path / "run/checkpoint.pt").write_bytes(b"torn")
    damaged = dfad_fast("resume", "run")
    assert damaged.code == 2
    assert "checkpoint.pt is damaged" in damaged.err


def test_a_damaged_checkpoint_costs_what_came_after_the_one_before(dfad_fast, own, tmp_path):
    more = ["--iterations", "6", "--checkpoint-seconds", "0", "--keep-checkpoints", "3"]
    assert dfad_fast("distill", *own, *more).code == 0
    before = (tmp_path / "run/student.safetensors").read_bytes()
    # One after each iteration: the last two are of the fifth and the sixth.
    for name in ("checkpoint.pt", "checkpoint-1.pt"):
        (tmp_path / "run" / name).write_bytes(b"torn")
    (tmp_path / "run/student.safetensors").unlink()
    resumed = dfad_fast("resume", "run")
    assert resumed.code == 0, resumed.err
    assert "resuming from iteration 4" in resumed.out
    lines = [line for line in resumed.err.splitlines() if "held-out generated images" not in line]
    assert len(lines) == 2
    assert lines[0].startswith("dfad-fast: run/checkpoint.pt is damaged (")
    assert lines[0].endswith("resuming from checkpoint-2.pt, which was written before it")
    assert (tmp_path / "run/student.safetensors").read_bytes() == before


def test_resume_takes_changes_when_told(dfad_fast, own, tmp_path, monkeypatch):
    import yaml

    assert dfad_fast("distill", *own).code == 0
    monkeypatch.setitem(sys.modules, "wandb", None)
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["versions"]["torch"] = "1.0"
    config["distill"] |= {"iterations": 4, "log": ["wandb", "csv"]}
    path.write_text(yaml.safe_dump(config))
    refused = dfad_fast("resume", "run")
    assert (refused.code, refused.err.count("\n")) == (2, 2)
    assert "versions: {'torch': '1.0'} then" in refused.err
    taken = dfad_fast("resume", "run", "--accept-changes")
    assert taken.code == 0, taken.err
    assert yaml.safe_load(path.read_text())["changes"][0]["at_iteration"] == 2
    # A logger whose package is missing here ends no run that was begun elsewhere.
    assert "the run continues without its logger: wandb is not installed or cannot be imported" in refused.err
    assert (tmp_path / "run/metrics.csv").is_file()


def test_a_full_disk_is_a_failure_that_says_so(dfad_fast, own, tmp_path, monkeypatch):
    import errno
    from pathlib import Path

    def no_space(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", no_space)
    done = dfad_fast("distill", *own)
    assert done.code == 1
    assert "No space left on device" in done.err
    assert "MiB are free there" in done.err
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def test_a_packages_network_teaches_one_of_ours(dfad_fast, tmp_path):
    pytest.importorskip("torchvision")
    names = ("--teacher", "torchvision:resnet18", "--student", "wrn-16-1", "--classes", "4")
    done = dfad_fast("distill", *names, "--image-shape", "3,16,16", *SMALL, "--out", "run")
    assert done.code == 0, done.err
    assert "tap: layer2.1.relu#1 [128, 2, 2]" not in done.out  # the student's stages end at 4x4
    assert "tap: relu#0 [64, 8, 8] <- stages.2.0.relu1#0 [32, 8, 8]" in done.out
    assert (tmp_path / "run/student.safetensors").is_file()


def test_a_name_that_a_package_does_not_know_is_refused(dfad_fast, own):
    pytest.importorskip("torchvision")
    done = dfad_fast("distill", *with_option(own, "--student", "torchvision:resnet19"))
    assert done.code == 2
    assert "torchvision has no network 'resnet19'" in done.err


def test_more_threads_than_cores_are_a_warning(dfad_fast, own):
    import torch

    before, many = torch.get_num_threads(), (os.cpu_count() or 1) + 1
    try:
        done = dfad_fast("distill", *own, "--threads", str(many))
    finally:
        torch.set_num_threads(before)
    assert done.code == 0
    assert f"{many} threads share" in done.err


def test_a_choice_of_the_best_student_that_cannot_be_costs_no_run(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own).code == 0
    student = (tmp_path / "run/student.safetensors").read_bytes()
    for by, message in (
        ("accuracy", "needs labeled test images"),
        ("luck", "unknown --best-by 'luck': expected auto, accuracy, agreement"),
    ):
        done = dfad_fast("distill", *own, "--overwrite", "--best-by", by)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert message in done.err
        assert (tmp_path / "run/student.safetensors").read_bytes() == student
