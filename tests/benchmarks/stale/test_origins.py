"""Every committed result names its revision and machine and no local path; what is older than its code is told."""

import json
import re
import shutil
import subprocess
import warnings

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.stale.origins import RESULTS, ROOT, TABLE, NoOrigin, Origin, lines, origin_of, read

FILES = sorted(path for path in RESULTS.rglob("*") if path.is_file() and path.name != TABLE)
NAMES = [path.relative_to(RESULTS).as_posix() for path in FILES]
LOCAL = re.compile(rb"(?<![\w.])/(?:home|root|tmp|work|mnt|Users)/\w|\b[A-Z]:\\\\?Users\\")


@pytest.mark.parametrize("name", NAMES)
def test_every_result_has_an_origin_that_agrees_with_it(name):
    origin = origin_of(name, read())
    if not name.endswith(".json"):
        return
    told = json.loads((RESULTS / name).read_text()).get("machine")
    if isinstance(told, dict):
        assert told["git_revision"].startswith(origin.revision), f"correct the row {origin.files} of {TABLE}"
        parts = told["cpu"], f"{told['cores']} cores", told["device"]
        assert all(part in origin.machine for part in parts), f"correct the row {origin.files} of {TABLE}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_result_holds_a_local_path(path):
    assert LOCAL.findall(path.read_bytes()) == []


def test_the_table_names_what_is_there():
    for origin in read():
        assert [path for path in origin.code if not (ROOT / path).exists()] == []
        assert [name for name in NAMES if origin_of(name, read()) == origin], f"{origin.files} fits no file"


def test_stale_results_are_told():
    """A warning and no failure: old figures stay true of the revision that they name."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # whatever pytest makes of them
        for line in lines(read()):
            warnings.warn(f"{line} (run.py stale)", UserWarning, stacklevel=1)


@pytest.mark.parametrize("missing", ["revision", "machine", "code"])
def test_a_row_that_says_less_is_refused(tmp_path, missing):
    row = {"revision": "abc", "machine": "one", "code": ["csrc"]}
    del row[missing]
    (tmp_path / TABLE).write_text(json.dumps({"ops/*": row}))
    with pytest.raises(NoOrigin, match=rf"ops/\*: {missing} is missing"):
        read(tmp_path)
    with pytest.raises(NoOrigin, match=r"step/step\.json: no row"):
        origin_of("step/step.json", [Origin("ops/*", "abc", "one", ("csrc",))])


def git(folder, *arguments):
    settings = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_what_changed_since_is_counted(tmp_path):
    git(tmp_path, "init", "-q")
    revisions = []
    for name in ("measured", "elsewhere", "measured"):
        with (tmp_path / name).open("a") as file:
            file.write("line\n")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", name)
        revisions.append(git(tmp_path, "rev-parse", "HEAD"))
    old, _, new = (Origin(f"{r[:4]}/*", r, "one", ("measured",)) for r in revisions)
    assert lines([old, new], tmp_path) == [
        f"{old.files}: revision {old.revision}, 1 commit since to measured"
    ]
    unknown = Origin("ops/*", "f" * 40, "one", ("measured",))
    assert lines([unknown], tmp_path) == [
        f"ops/*: revision {unknown.revision} is not in this repository's history"
    ]


def test_without_git_nothing_can_be_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert all("is not in this repository's history" in line for line in lines(read()))


def test_the_command_lists_them():
    told = CliRunner().invoke(run.main, ["stale"])
    assert told.exit_code == 0, told.output
    assert told.output.strip() == ("\n".join(lines(read())) or "no result is older than its code")
