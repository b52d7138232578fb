"""Whatever ends a run, or takes its terminal away: what it has done is saved, and one line says so."""

import json
import os
import shlex
import signal
import sys

import pytest
import yaml

SIGNALLING = """

import os, signal

class Signals(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.left = teacher(), int(os.environ["CALLS"])

    def forward(self, x):
        # In the generator's steps, in which it is frozen; looks before the run do not count.
        self.left -= torch.is_grad_enabled() and not any(p.requires_grad for p in self.parameters())
        if self.left == 0:
            signal.raise_signal(int(os.environ["SIGNAL"]))
        return self.net(x)
"""


@pytest.fixture
def hangup_heard():
    """Where the tests run under nohup, SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def signalled(own, tmp_path, monkeypatch):
    """A run of many iterations that gets a signal when its teacher was called so often in the generator's steps."""
    with (tmp_path / "own.py").open("a") as file:
        file.write("\nimport torch\n" + SIGNALLING)

    def arguments(number, calls):
        monkeypatch.setenv("SIGNAL", str(int(number)))
        monkeypatch.setenv("CALLS", str(calls))
        own[own.index("--teacher") + 1] = "own.py:Signals"
        own[own.index("--iterations") + 1] = "1000"
        if "--teacher-weights" in own:
            at = own.index("--teacher-weights")
            del own[at : at + 2]
        return own

    return arguments


@pytest.mark.parametrize(
    ("number", "calls"), [(signal.SIGHUP, 1), (signal.SIGHUP, 30), (signal.SIGTERM, 1), (signal.SIGINT, 2)]
)
def test_a_signal_at_any_moment(dfad_fast, hangup_heard, signalled, tmp_path, number, calls):
    before = signal.getsignal(number)
    done = dfad_fast("distill", *signalled(number, calls), "--method", "dfad")
    assert done.code == 130
    assert done.err.count("\n") == 1
    saved = json.loads((tmp_path / "run/summary.json").read_text())
    if f"interrupted at iteration {saved['iterations']} of 1000; everything so far is saved" not in done.err:
        raise AssertionError(done.err)
    assert (tmp_path / "run/student.safetensors").is_file()
    assert not (tmp_path / "run/run.lock").exists()
    assert signal.getsignal(number) is before


def test_before_the_run_begins(dfad_fast, signalled, tmp_path):
    with (tmp_path / "own.py").open("a") as file:
        file.write("\nsignal.raise_signal(signal.SIGTERM)\n")
    done = dfad_fast("distill", *signalled(signal.SIGTERM, 1))
    assert (done.code, done.err) == (130, "dfad-fast: interrupted before everything was saved\n")
    assert not (tmp_path / "run").exists()


def test_during_a_checkpoint(dfad_fast, own, tmp_path, monkeypatch):
    from dfad_fast.runs import checkpoints

    save = checkpoints.save

    def interrupted(state, path):
        signal.raise_signal(signal.SIGTERM)
        save(state, path)

    monkeypatch.setattr(checkpoints, "save", interrupted)
    own[own.index("--iterations") + 1] = "1000"
    done = dfad_fast("distill", *own, "--checkpoint-iterations", "1")
    assert done.code == 130
    assert (tmp_path / "run/checkpoint.pt").is_file()


def test_under_nohup_a_terminal_may_be_closed(dfad_fast, signalled, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        arguments = signalled(signal.SIGHUP, 2)
        arguments[arguments.index("--iterations") + 1] = "3"
        assert dfad_fast("distill", *arguments, "--method", "dfad").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def without_reader(monkeypatch):
    """Gives streams the place of a pipe whose reader has left."""
    opened = []

    def leave(*names):
        for name in names:
            reading, writing = os.pipe()
            os.close(reading)
            opened.append(os.fdopen(writing, "w"))
            monkeypatch.setattr(sys, name, opened[-1])

    yield leave
    for stream in opened:
        stream.close()  # raises where something is left that cannot be written


def test_a_closed_pipe_costs_no_work(dfad_fast, own, tmp_path, without_reader):
    own[own.index("--iterations") + 1] = "1000"
    without_reader("stdout")
    stopped = dfad_fast("distill", *own)
    assert stopped.code == 130
    assert stopped.err.count("\n") == 1
    assert "interrupted at iteration 1 of 1000; everything so far is saved in run" in stopped.err
    assert dfad_fast("inspect", "run").code == 0
    assert (tmp_path / "run/inspect.png").is_file()
    assert dfad_fast("compare", "run").code == 0
    assert (tmp_path / "compare.png").is_file()
    assert dfad_fast("report", "run").code == 0
    assert dfad_fast("profile", *own[:-4], "--iterations", "1", "--json", "profile.json").code == 0
    assert (tmp_path / "profile.json").is_file()
    assert dfad_fast("--help").code == 0
    without_reader("stdout", "stderr")  # as when a terminal is closed
    assert dfad_fast("resume", "run").code == 130
    assert json.loads((tmp_path / "run/summary.json").read_text())["iterations"] == 2
    assert dfad_fast("resume", "nowhere").code == 2


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own).code == 0
    run = tmp_path / "run"
    student, config = (run / "student.safetensors").read_bytes(), (run / "config.yaml").read_text()
    for path in run.iterdir():
        if path.is_file() and path.name not in ("config.yaml", "metrics.jsonl"):
            path.unlink()
    again = dfad_fast("resume", "run")
    assert again.code == 0, again.err
    assert "run holds no checkpoint yet: the run is restarted" in again.out
    assert "resuming from" not in again.out
    assert (run / "student.safetensors").read_bytes() == student
    assert (run / "config.yaml").read_text() == config
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    # What a finished run has left is not written over.
    for path in run.glob("checkpoint*"):
        path.unlink()
    kept = dfad_fast("resume", "run")
    assert (kept.code, kept.err.count("\n")) == (2, 1)
    assert "holds no checkpoint.pt to resume from" in kept.err
    assert (run / "student.safetensors").read_bytes() == student


@pytest.mark.parametrize("text", [None, "]", "distill: {}\n\0"])
def test_a_folder_without_a_config_that_can_be_read_is_one_line(dfad_fast, tmp_path, text):
    if text is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/config.yaml").write_text(text)
    done = dfad_fast("resume", "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "run" in done.err
    assert "config.yaml" in done.err
    assert (tmp_path / "run").exists() == (text is not None)


def test_a_run_works_from_anywhere_and_may_be_moved(dfad_fast, own, tmp_path, monkeypatch, plugins_forgotten):
    home = tmp_path / "a home's $(place)"
    (home / "project").mkdir(parents=True)
    for name in ("own.py", "teacher.pt"):
        (tmp_path / name).rename(home / "project" / name)
    (home / "project/terms.py").write_text(
        "from dataclasses import replace\nfrom dfad_fast.methods import METHODS\n"
        "own = replace(METHODS['dfad'], name='own')\n"
    )
    monkeypatch.chdir(home / "project")
    own[own.index("own.py:student")] = "own:student"
    more = ["--plugin", "terms.py", "--method", "own", "--out", "a run"]
    assert dfad_fast("distill", *own, *more).code == 0
    del sys.modules["own"]
    monkeypatch.chdir(tmp_path)

    def resumes_and_repeats(run, iterations):
        config = run / "config.yaml"
        told = yaml.safe_load(config.read_text())
        told["distill"]["iterations"] = iterations
        config.write_text(yaml.safe_dump(told))
        stopped = dfad_fast("resume", run)
        assert stopped.code == 0, stopped.err
        assert dfad_fast("inspect", run).code == 0
        assert dfad_fast("export", run, "--format", "safetensors", "--overwrite").code == 0
        command = shlex.split(told["repeat"])[1:-1]
        command[command.index("--config") + 1] = str(config)
        repeated = dfad_fast(*command, tmp_path / f"repeated {iterations}")
        assert repeated.code == 0, repeated.err

    resumes_and_repeats(home / "project/a run", 3)
    told = yaml.safe_load((home / "project/a run/config.yaml").read_text())
    assert shlex.split(told["repeat"])[3] == str(home / "project/a run/config.yaml")
    for name, value in told["distill"].items():
        for path in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
            if name != "teachers" and ("own" in str(path) or ".p" in str(path)) and path != "own":
                assert str(path).startswith(str(home)), (name, path)
    # The whole project is moved: all that the run names has moved with it.
    home.rename(tmp_path / "elsewhere")
    resumes_and_repeats(tmp_path / "elsewhere/project/a run", 4)


def test_names_are_only_names(dfad_fast, own, tmp_path):
    hostile = "z\x1b]0;evil\x07[red]\x9b2J 'y\udcff"
    own[own.index("--out") + 1] = hostile
    done = dfad_fast("distill", *own)
    assert done.code == 0, done.err
    again = dfad_fast("distill", *own)
    assert again.code == 2
    finished = dfad_fast("resume", hostile)
    assert finished.code == 2
    with (tmp_path / "own.py").open("a") as file:
        file.write("\ndef fails():\n    raise ValueError('\\x1b[31mred')\n")
    own[own.index("--student") + 1] = "own.py:fails"
    failed = dfad_fast("distill", *own, "--overwrite")
    assert r"fails() failed with ValueError: \x1b[31mred" in failed.err
    unknown = dfad_fast("distill", *own, "--method", "\x1b[31m")
    for said in (done, again, finished, failed, unknown):
        assert not set("\x1b\x07\x9b\udcff") & set(said.out + said.err)
    assert r"Everything is in z\x1b]0;evil" in done.out
    assert json.loads((tmp_path / hostile / "summary.json").read_text())["iterations"] == 2
