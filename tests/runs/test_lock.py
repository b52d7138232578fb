"""One writer at a time in a run's folder."""

import copy
import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import threading

import pytest

from dfad_fast import DFADTrainer
from dfad_fast.errors import DFADFastWarning, RunError, UsageError
from dfad_fast.process import start_of
from dfad_fast.runs import checkpoints
from dfad_fast.runs.folder import LockLost, RunFolder
from dfad_fast.runs.layout import LOCK
from dfad_fast.runs.lock import RunLock, refuse_held

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 8, "seed": 0}


def trainer_of(pair, **settings):
    teacher, student = pair
    return DFADTrainer(teacher, copy.deepcopy(student), SHAPE, "dfad", **{**SMALL, **settings})


@pytest.fixture
def another():
    """A process that lives, and does nothing."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


def lock_for(folder, process, started=None, host=None):
    folder.mkdir(exist_ok=True)
    told = {
        "host": host or platform.node(),
        "process": process,
        "started": started or start_of(process) or "1",
    }
    (folder / LOCK).write_text(json.dumps(told))


def test_a_live_writer_is_named_and_left_alone(pair, tmp_path, another):
    trainer_of(pair, out=tmp_path / "a run").fit(1)
    lock_for(tmp_path / "a run", another.pid)
    held = (tmp_path / "a run" / LOCK).read_text()
    for how in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match=rf"process {another.pid} is writing to .*kill {another.pid}"):
            trainer_of(pair, out=tmp_path / "a run", **how)
    assert (tmp_path / "a run" / LOCK).read_text() == held
    assert checkpoints.read(tmp_path / "a run")["iteration"] == 1
    # From here it cannot be seen whether one of another machine does.
    lock_for(tmp_path / "a run", 1, "1", host="elsewhere")
    with pytest.raises(UsageError, match=r"process 1 on elsewhere .*rm '.*/a run/run.lock'"):
        trainer_of(pair, out=tmp_path / "a run", resume=True)
    for text in ("", "[]", "{", '{"host": "x", "process": -1, "started": ""}'):
        (tmp_path / "a run" / LOCK).write_text(text)
        with pytest.raises(UsageError, match="a lock that cannot be read: if no process writes there, rm"):
            refuse_held(tmp_path / "a run")


@pytest.mark.parametrize("how", ["ended", "its number is another's", "not waited for"])
def test_a_dead_writers_lock_is_taken_over(tmp_path, another, how):
    lock_for(tmp_path, another.pid, "1" if how == "its number is another's" else None)
    if how != "its number is another's":
        another.kill()
        os.waitid(os.P_PID, another.pid, os.WEXITED | os.WNOWAIT)
    if how == "ended":
        another.wait()
    lock = RunLock(tmp_path)
    with pytest.warns(
        DFADFastWarning, match=f"process {another.pid}, which was writing to .*, ended without"
    ):
        lock.take()
    assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    lock.give_back()
    assert not (tmp_path / LOCK).exists()


RACE = """
import sys, warnings
from multiprocessing import get_context
from pathlib import Path
from dfad_fast.errors import UsageError
from dfad_fast.runs.lock import RunLock

def attempt(folder, together, answers):
    warnings.simplefilter("ignore")
    lock, found = RunLock(folder), "has it"
    together.wait()
    try:
        lock.take()
    except UsageError:
        found = "refused"
    together.wait()
    if found == "has it" and not lock.is_ours:
        found = "lost it"
    answers.put(found)
    together.wait()
    lock.give_back()

context = get_context("fork")
for folder in map(Path, sys.argv[1:]):
    together, answers = context.Barrier(6), context.Queue()
    processes = [context.Process(target=attempt, args=(folder, together, answers)) for _ in range(6)]
    for process in processes:
        process.start()
    found = sorted(answers.get(timeout=20) for _ in processes)
    assert found == ["has it", *["refused"] * 5], found
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs processes that fork")
def test_of_many_that_find_a_stale_lock_one_takes_it_over(tmp_path, another):
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        lock_for(folder, another.pid, "1")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", RACE, *map(str, folders)], check=True, env=environment)
    assert not [path for folder in folders for path in folder.iterdir()]


def test_the_lock_is_gone_after_fit_however_it_ends(pair, tmp_path):
    trainer = trainer_of(pair, out=tmp_path)

    class Stops:
        def advance(self, iteration):
            assert (tmp_path / LOCK).exists()
            raise KeyboardInterrupt if iteration == 1 else ValueError

        def log(self, record):
            pass

    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            trainer.fit(2, progress=Stops())
        assert not (tmp_path / LOCK).exists()
    assert trainer.fit(1)["iterations"] == 3
    trainer.save()
    assert not (tmp_path / LOCK).exists()


def test_trainers_of_one_folder_follow_each_other(pair, tmp_path):
    """As where a cell of a notebook is run again: none that is not in its fit stands in another's way."""
    first = trainer_of(pair, out=tmp_path)
    assert not (tmp_path / LOCK).exists()
    later = trainer_of(pair, out=tmp_path, overwrite=True)
    with pytest.raises(UsageError, match=r"has written to .* since this trainer was created or its last fit"):
        first.fit(1)
    later.fit(1)
    later.fit(1)
    trainer_of(pair, out=tmp_path, resume=True).fit(1)
    with pytest.raises(UsageError, match="create a new one with resume=True"):
        later.fit(1)
    assert checkpoints.read(tmp_path)["iteration"] == 3
    assert not (tmp_path / LOCK).exists()


def test_a_trainer_in_its_fit_is_not_disturbed(pair, tmp_path):
    trainer, refused = trainer_of(pair, out=tmp_path), []

    class Another:
        def advance(self, iteration):
            def make():
                with pytest.raises(UsageError, match="another trainer of this process is writing to"):
                    trainer_of(copy.deepcopy(pair), out=tmp_path, overwrite=True)
                refused.append(iteration)

            thread = threading.Thread(target=make)
            thread.start()
            thread.join()

        def log(self, record):
            pass

    assert trainer.fit(1, progress=Another())["iterations"] == 1
    assert refused == [1]


@pytest.mark.filterwarnings("ignore:metrics cannot be written")
def test_a_folder_that_is_removed_during_a_run_is_made_anew(pair, tmp_path, another):
    class Removes:
        def advance(self, iteration):
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            if iteration == 4:
                lock_for(tmp_path / "run", another.pid)

        def log(self, record):
            pass

    trainer = trainer_of(pair, out=tmp_path / "run")
    with pytest.warns(DFADFastWarning, match="was removed while the run wrote to it"):
        trainer.fit(2, progress=Removes())
    assert (tmp_path / "run/student.safetensors").is_file()
    # But where another run was begun, nothing is written into it.
    with (
        pytest.warns(DFADFastWarning),
        pytest.raises(RunError, match=f"process {another.pid} is writing .*; nothing more of this run"),
    ):
        trainer.fit(2, progress=Removes())
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == another.pid


def test_a_lock_that_does_not_fit_on_the_disk_is_not_left_behind(tmp_path, monkeypatch):
    def no_space(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(
        RunError, match=r"cannot write .*run.lock: No space left on device .* MiB are free there"
    ):
        RunLock(tmp_path).take()
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    RunLock(tmp_path).take()


def test_a_process_of_another_space_of_numbers_is_not_taken_for_dead(tmp_path):
    """As a container's that shares the host's name and the folder."""
    owner = {"host": platform.node(), "process": 2**31 - 2, "started": "1", "space": "pid:[1]"}
    (tmp_path / "run.lock").write_text(json.dumps(owner))
    with pytest.raises(UsageError, match="whether it still runs cannot be seen from here"):
        RunLock(tmp_path).take()


def test_who_lost_a_folder_does_not_get_it_back_unasked(tmp_path):
    ours, others = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run", resume=True)
    ours.begin_writing()
    (tmp_path / "run" / "run.lock").write_text(
        json.dumps({"host": "elsewhere", "process": 1, "started": "1"})
    )
    with pytest.raises(LockLost):
        ours.write_weights("student.safetensors", {})
    ours.end_writing()
    (tmp_path / "run" / "run.lock").unlink()
    others.begin_writing()
    others.write_config({"of": "another"})
    others.end_writing()
    with pytest.raises(UsageError, match="another trainer or process has written to"):
        ours.begin_writing()
