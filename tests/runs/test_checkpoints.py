"""Checkpoints that outlive what happens to a run: kills, damaged files, a full disk, other settings."""

import copy
import errno
import random
import signal
import time

import pytest
import torch
import yaml

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.runs import checkpoints
from dfad_fast.runs.folder import RunFolder
from dfad_fast.runs.layout import checkpoints_in
from tests.small_networks import forking

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 8, "batch_size": 8, "seed": 0}
KILLS = 20
# Seconds: of a life at most, and after each iteration. However fast a machine is, all lives together end no run.
LONGEST, PAUSE = 0.25, 0.02
ITERATIONS = 300


def trainer_of(pair, **settings):
    teacher, student = pair
    return DFADTrainer(teacher, copy.deepcopy(student), SHAPE, "dfad", **{**SMALL, **settings})


def names(folder):
    return [path.name for path in checkpoints_in(folder)]


def iteration(path):
    return torch.load(path, weights_only=True)["iteration"]


def test_the_last_ones_are_kept(tmp_path):
    folder = RunFolder(tmp_path, keep_checkpoints=3)
    for number in range(1, 6):
        folder.write_checkpoint({"iteration": number})
        assert folder.read_checkpoint() == {"iteration": number}
    assert names(tmp_path) == ["checkpoint.pt", "checkpoint-1.pt", "checkpoint-2.pt"]
    assert [iteration(path) for path in checkpoints_in(tmp_path)] == [5, 4, 3]
    RunFolder(tmp_path, overwrite=True)
    assert names(tmp_path) == []
    only = RunFolder(tmp_path, keep_checkpoints=1)
    for number in (1, 2):
        only.write_checkpoint({"iteration": number})
    assert names(tmp_path) == ["checkpoint.pt"]
    with pytest.raises(UsageError, match="keep_checkpoints must be at least 1"):
        RunFolder(tmp_path, overwrite=True, keep_checkpoints=0)


def flip_a_bit(path):
    """In the middle of a tensor's bytes: a file that can still be read as one."""
    state = torch.load(path, weights_only=True)
    state["weights"]["a"].view(torch.uint8)[3] ^= 4
    torch.save(state, path)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty])
def test_of_a_damaged_one_the_one_before_is_taken(tmp_path, damage):
    folder = RunFolder(tmp_path)
    for number in (1, 2):
        folder.write_checkpoint({"iteration": number, "weights": {"a": torch.arange(1000.0)}})
    damage(tmp_path / "checkpoint.pt")
    with pytest.warns(UserWarning, match=r"checkpoint.pt is damaged .*: resuming from checkpoint-1.pt"):
        assert folder.read_checkpoint()["iteration"] == 1
    # It was set aside: the next one takes no whole one's place.
    assert names(tmp_path) == ["checkpoint-1.pt"]
    folder.write_checkpoint({"iteration": 3})
    assert [iteration(path) for path in checkpoints_in(tmp_path)] == [3, 1]
    for path in checkpoints_in(tmp_path):
        empty(path)
    with pytest.raises(UsageError, match=r"checkpoint.pt is damaged .*checkpoint-1.pt is damaged"):
        folder.read_checkpoint()


def test_a_file_of_the_users_is_no_checkpoint(tmp_path):
    for name in ("checkpoint-best.pt", "checkpoint-01.pt", "checkpoints.pt"):
        (tmp_path / name).write_bytes(b"mine")
    folder = RunFolder(tmp_path, keep_checkpoints=3)
    for number in (1, 2, 3):
        folder.write_checkpoint({"iteration": number})
    assert len(names(tmp_path)) == 3
    RunFolder(tmp_path, resume=True, keep_checkpoints=1).write_checkpoint({"iteration": 4})
    assert names(tmp_path) == ["checkpoint.pt"]
    RunFolder(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-01.pt",
        "checkpoint-best.pt",
        "checkpoints.pt",
    ]


def test_without_a_checksum_it_is_of_an_older_version(tmp_path):
    torch.save({"iteration": 1}, tmp_path / "checkpoint.pt")
    assert checkpoints.read(tmp_path) == {"iteration": 1}


def test_a_kill_between_two_names_loses_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_checkpoint({"iteration": 1})
    checkpoints.rotate(tmp_path, 2)  # and then the new one is not given its name
    assert folder.read_checkpoint() == {"iteration": 1}
    folder.write_checkpoint({"iteration": 2})
    assert [iteration(path) for path in checkpoints_in(tmp_path)] == [2, 1]


def test_a_full_disk_does_not_end_a_run_that_finds_room_again(pair, tmp_path, monkeypatch):
    trainer = trainer_of(pair, out=tmp_path, checkpoint_seconds=0.0)
    full = iter([False, True, True, False])
    whole = checkpoints.save

    def save(state, path):
        if next(full, False):
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(state, path)

    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.warns(UserWarning, match="No space left on device.*training continues") as told:
        trainer.fit(4)
    assert len([w for w in told if "No space" in str(w.message)]) == 2
    assert [iteration(path) for path in checkpoints_in(tmp_path)] == [4, 1]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_first_one_is_written_soon(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("dfad_fast.training.loop._UNTIL_FIRST_CHECKPOINT", 0.0)
    seen = []

    class Looks:
        def advance(self, _iteration):
            seen.append(names(tmp_path))

        def log(self, record):
            pass

    trainer_of(pair, out=tmp_path).fit(4, progress=Looks())
    assert seen == [[], *[["checkpoint.pt"]] * 3]
    assert [iteration(path) for path in checkpoints_in(tmp_path)] == [4, 1]


def test_a_trainer_begins_a_run_again_that_has_saved_nothing(pair, tmp_path):
    with pytest.raises(UsageError, match=r"holds no readable config.yaml"):
        trainer_of(pair, out=tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()
    trainer_of(pair, out=tmp_path)
    trainer = trainer_of(pair, out=tmp_path, resume=True)
    assert trainer.notices == [f"{tmp_path} holds no checkpoint yet: the run is restarted"]
    assert trainer.fit(1)["iterations"] == 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "l1 + virtual",
            "l1 + virtual(policy=learned)",
            "has no weights of the term modules that this run trains",
        ),
        ("l1 + virtual(policy=learned)", "l1 + virtual", "has 1 optimizer of terms .*, and this run has 0"),
    ],
)
def test_other_modules_of_terms_do_not_fit(pair, tmp_path, before, after, said):
    trainer_of(pair, out=tmp_path, student_terms=before).fit(1)
    with pytest.raises(UsageError, match=f"networks, terms and this device .*{said}"):
        trainer_of(pair, out=tmp_path, student_terms=after, resume=True, accept_changes=True)


def test_other_settings_are_refused_unless_told(pair, tmp_path):
    trainer_of(pair, out=tmp_path).fit(1)
    changes = {"batch_size": 16, "recipe": "adam", "replay": 2}
    with pytest.raises(UsageError, match="started with other settings") as caught:
        trainer_of(pair, out=tmp_path, resume=True, **changes)
    for part in ("batch_size: 8 then, 16 now", "replay: 0 then, 2 now", "student_lr"):
        assert part in str(caught.value)
    trainer_of(pair, out=tmp_path, resume=True)
    trainer_of(pair, out=tmp_path, resume=True, accept_changes=True, batch_size=16).fit(1)
    # From now on these are the run's.
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["changes"] == [
        {"at_iteration": 1, "batch_size": 16}
    ]
    trainer_of(pair, out=tmp_path, resume=True, batch_size=16)
    with pytest.raises(UsageError, match="batch_size: 16 then, 8 now"):
        trainer_of(pair, out=tmp_path, resume=True)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_time_between_checkpoints_that_is_none_is_refused(pair, tmp_path, seconds):
    with pytest.raises(UsageError, match="checkpoint_seconds must be at least 0"):
        trainer_of(pair, out=tmp_path / "run", checkpoint_seconds=seconds)
    assert not (tmp_path / "run").exists()


def test_another_version_is_refused_unless_told(pair, tmp_path):
    trainer_of(pair, out=tmp_path).fit(1)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["versions"]["python"] = "3.1"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    trainer_of(pair, out=tmp_path, resume=True)
    config["versions"]["torch"] = "1.0"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UsageError, match=r"versions: \{'torch': '1.0'\} then, "):
        trainer_of(pair, out=tmp_path, resume=True)


class Slowly:
    """So that a run is not done before it is killed."""

    def advance(self, iteration):
        time.sleep(PAUSE)

    def log(self, record):
        pass


def run_to_the_end(pair_file, folder, made, progress):
    """In a process of its own: from where the run is, if it is anywhere; says when it is under way."""
    torch.set_num_threads(1)
    teacher, student = torch.load(pair_file, weights_only=False)
    there = bool(names(folder))
    settings = {"out": folder, "resume": there, "overwrite": not there, "checkpoint_seconds": 0.05}
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad", **SMALL, **settings)
    made.set()
    trainer.fit(ITERATIONS - trainer.iteration, progress=progress)


@pytest.mark.slow
@pytest.mark.long
def test_twenty_kills_lose_nothing(pair, tmp_path):
    """A run that is killed again and again, at any moment, ends with the weights of one that never was."""
    torch.save(pair, tmp_path / "pair.pt")
    context = forking()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are ordered by the number of threads
    whole = trainer_of(pair)
    whole.fit(ITERATIONS)
    torch.set_num_threads(threads)
    moments = random.Random(0)
    reached = []
    kills = 0
    while True:
        made = context.Event()
        progress = None if kills == KILLS else Slowly()
        arguments = (tmp_path / "pair.pt", tmp_path / "run", made, progress)
        process = context.Process(target=run_to_the_end, args=arguments)
        process.start()
        assert made.wait(100)
        if kills == KILLS:
            process.join(300)
            assert process.exitcode == 0
            break
        time.sleep(moments.uniform(0.0, LONGEST))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        reached.append(checkpoints.read(tmp_path / "run")["iteration"] if names(tmp_path / "run") else 0)
    assert reached == sorted(reached)
    assert 0 < reached[-1] < ITERATIONS, reached
    state = checkpoints.read(tmp_path / "run")
    assert state["iteration"] == ITERATIONS
    for key, value in whole.networks.student.state_dict().items():
        assert torch.equal(state["weights"]["student"][key], value), key
