import json
import warnings
from pathlib import Path

import pytest
import torch

from dfad_fast.errors import ConfigError, RunError, UsageError
from dfad_fast.models.loading.weights_file import split_key
from dfad_fast.runs.folder import RunFolder, as_folder
from dfad_fast.runs.layout import folder_of


def test_a_file_is_whole_or_not_there(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_text("summary.json", json.dumps({"iterations": 1}))

    def fails(path):
        path.write_text("half of")
        raise OSError(28, "No space left on device")

    def overwrites(_path):
        raise ValueError("names overwrite each other")

    with pytest.raises(RunError, match=r"cannot write .*summary.json: .*No space left on device"):
        folder._write("summary.json", fails)
    with pytest.raises(ValueError, match="overwrite each other"):  # is no matter of the disk
        folder._write("summary.json", overwrites)
    assert json.loads((tmp_path / "run/summary.json").read_text()) == {"iterations": 1}
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["summary.json"]


def test_tied_and_strided_weights_are_saved(tmp_path):
    from safetensors.torch import load_file

    shared = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    RunFolder(tmp_path).write_weights("w.safetensors", {"a": shared, "b": shared, "c": shared[1:, :2]})
    loaded = load_file(tmp_path / "w.safetensors")
    assert torch.equal(loaded["a"], shared)
    assert torch.equal(loaded["b"], shared)
    assert torch.equal(loaded["c"], shared[1:, :2])


def test_another_run_is_refused_overwritten_or_resumed(tmp_path):
    RunFolder(tmp_path).write_config({"seed": 1})
    (tmp_path / "mine.txt").write_text("not a run's file")
    with pytest.raises(UsageError, match="holds another run"):
        RunFolder(tmp_path)
    RunFolder(tmp_path, resume=True)
    assert (tmp_path / "config.yaml").exists()
    RunFolder(tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_metrics_after_the_checkpoint_are_cut_off(tmp_path):
    folder = RunFolder(tmp_path)
    for iteration in (1, 2, 3):
        folder.append_metrics({"iteration": iteration, "generated_images": 8})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "torn')
    assert [r["iteration"] for r in folder.read_metrics(2)] == [1, 2]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2]


def test_metrics_that_cannot_be_written_warn_and_do_not_stop_a_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").mkdir()
    with pytest.warns(UserWarning, match="metrics cannot be written"):
        folder.append_metrics({"iteration": 1})


def test_a_checkpoint_comes_back_and_executes_nothing(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (warnings.warn, ("ran",))

    folder = RunFolder(tmp_path)
    with pytest.raises(UsageError, match="holds no checkpoint"):
        folder.read_checkpoint()
    folder.write_checkpoint({"iteration": 3, "weights": {"a": torch.ones(2)}})
    assert folder.read_checkpoint()["iteration"] == 3
    torch.save({"a": Bomb()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="is damaged"):
        folder.read_checkpoint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("processes", "x"),
        ("processes", 0),
        ("threads", True),
        ("batch_size", -1),
        ("levers", None),
        ("taps", [1]),
        ("changes", {"a": 1}),
        ("changes", [{"processes": [2]}]),
    ],
)
def test_a_config_that_no_run_has_written_is_named(tmp_path, name, value):
    folder = RunFolder(tmp_path)
    folder.write_config({"processes": 1, "taps": [], "changes": [{"processes": 2}], "mine": "too"})
    assert folder.read_config()["mine"] == "too"
    folder.write_config({name: value})
    with pytest.raises(ConfigError, match=f"config.yaml: {name} is .*, which no run writes: correct it"):
        folder.read_config()


def test_a_home_folder_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_folder("~/runs/a") == folder_of("~/runs/a") == tmp_path / "runs/a"
    assert split_key("~/a.pt::ema") == (tmp_path / "a.pt", "ema")
    assert as_folder("a~b") == Path("a~b")


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("", "out is empty: give the path of a folder"),
        ("a\0b", r"a\\x00b cannot be a run's folder: .*null"),
        ("x" * 300, r"x\.\.\.x+ cannot be a run's folder: File name too long: give another"),
        (b"runs", "out must be the path of a folder, got b'runs'"),
    ],
    ids=["empty", "NUL", "long", "bytes"],
)
def test_a_path_that_cannot_be_a_folder_is_refused(out, told):
    with pytest.raises(UsageError, match=told):
        as_folder(out)
