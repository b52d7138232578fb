import shutil

import pytest

from dfad_fast.jobs.paths import found_from, made_absolute


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("data_dir", "data", "{here}/data"),
        ("teachers", "../teachers", "{above}/teachers"),
        ("teacher_weights", ("teacher.pt", "b.pt::ema"), ["{here}/teacher.pt", "{here}/b.pt::ema"]),
        ("teacher", "own.py:make", "{here}/own.py:make"),
        ("teacher", "own:make", "{here}/own.py:make"),
        ("teacher", "torch.nn:Identity", "torch.nn:Identity"),
        ("teacher", "teacher.pt2", "{here}/teacher.pt2"),
        ("student", "hf:folder", "hf:{here}/folder"),
        ("student", "timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("student", "resnet20", "resnet20"),
        ("student", None, None),
        ("source", "0.5*fresh + 0.5*folder(path='data')", "0.5*fresh + 0.5*folder(path='{here}/data')"),
        (
            "source",
            "bank(restarted(vectors='v.npy'), images=9)",
            "bank(restarted(vectors='{here}/v.npy'), images=9)",
        ),
        ("source", "bank( restarted(vectors=random) )", "bank( restarted(vectors=random) )"),
        ("source", "later(path='data')", "later(path='data')"),
        ("plugin", ("own.py", "own", "package.terms"), ["{here}/own.py", "{here}/own.py", "package.terms"]),
    ],
)
def test_paths_are_made_whole(tmp_path, monkeypatch, name, given, expected):
    here = tmp_path / "here"
    here.mkdir()
    for file in ("own.py", "teacher.pt2"):
        (here / file).touch()
    monkeypatch.chdir(here)

    def full(text):
        return text and text.format(here=here, above=tmp_path)

    whole = made_absolute({name: given, "method": "dfad"})
    assert whole == {
        name: [full(e) for e in expected] if isinstance(expected, list) else full(expected),
        "method": "dfad",
    }
    assert made_absolute(whole) == whole


@pytest.fixture
def run(tmp_path):
    """A project with a run of these settings in it."""
    project = tmp_path / "project"
    for folder in ("project/runs/a", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("own.py", "runs/a/teacher.pt"):
        (project / file).touch()
    return {
        "out": str(project / "runs/a"),
        "teacher": f"{project}/own.py:make",
        "teacher_weights": [f"{project}/runs/a/teacher.pt::ema"],
        "data_dir": str(tmp_path / "elsewhere"),
        "plugin": [str(project / "gone.py")],
    }


def test_paths_are_those_from_here(run, tmp_path, monkeypatch):
    project = tmp_path / "project"
    assert found_from(run, project / "runs/a") == run
    monkeypatch.chdir(project)
    from_here = found_from(run, project / "runs/a")
    assert from_here == {
        "out": "runs/a",
        "teacher": "own.py:make",
        "teacher_weights": ["runs/a/teacher.pt::ema"],
        "data_dir": run["data_dir"],
        "plugin": ["gone.py"],
    }
    assert made_absolute(from_here) == run


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_paths_follow_a_folder(run, tmp_path, how):
    how(tmp_path / "project", tmp_path / "new")
    there = found_from(run, tmp_path / "new/runs/a")
    assert there == {
        **run,
        "out": str(tmp_path / "new/runs/a"),
        "teacher": f"{tmp_path}/new/own.py:make",
        "teacher_weights": [f"{tmp_path}/new/runs/a/teacher.pt::ema"],
        "plugin": [f"{tmp_path}/new/gone.py"],
    }
    # The run's folder alone, under another name: what is in it.
    (tmp_path / "new/runs/a").rename(tmp_path / "b")
    alone = found_from(run, tmp_path / "b")
    assert alone["teacher_weights"] == [f"{tmp_path}/b/teacher.pt::ema"]
    assert alone["teacher"] == run["teacher"]


def test_an_older_run_names_paths_from_where_it_was_started(tmp_path):
    settings = {"out": "runs/a", "teacher": "own.py:make", "teacher_weights": ["teacher.pt"]}
    assert found_from(settings, tmp_path) == settings
