import json

import pytest


def test_a_teacher_is_trained_and_saved_with_its_facts(dfad_fast, tmp_path):
    done = dfad_fast("teacher", "--dataset", "digits", "--network", "resnet8-w16", "--epochs", "6")
    assert done.code == 0, done.err
    (about,) = (tmp_path / "runs/teachers").glob("*.json")
    facts = json.loads(about.read_text())
    assert facts["test_accuracy"] > 0.9
    assert facts["image_shape"] == [1, 8, 8]
    assert about.with_suffix(".safetensors").exists()
    assert f"{100 * facts['test_accuracy']:.2f} % of the test images" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "digit"), "did you mean 'digits'"),
        (("--dataset", "digits", "--epochs", "0"), "epochs must be at least 1"),
        (("--dataset", "digits", "--network", "resnet1"), "did you mean"),
        (("--dataset", "digits", "--network", "lenet5"), "28x28 or 32x32"),
        ((), "Missing option '--dataset'"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(dfad_fast, arguments, message):
    done = dfad_fast("teacher", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_schedule_that_explodes_is_a_failure(dfad_fast, tmp_path):
    done = dfad_fast("teacher", "--dataset", "digits", "--epochs", "1", "--learning-rate", "1e30")
    assert done.code == 1
    assert "lower --learning-rate" in done.err
    assert not list((tmp_path / "runs/teachers").glob("*.safetensors"))
