"""The files of a bank: written once, kept as long as a checkpoint may name them, never mistaken."""

import os
from dataclasses import replace

import pytest
import torch

from dfad_fast.distributed import processes
from dfad_fast.errors import RunError, UsageError
from dfad_fast.process import start_of
from dfad_fast.runs import lock, whole_files
from dfad_fast.runs.bank_files import BankFiles, storage_for
from dfad_fast.runs.folder import RunFolder
from dfad_fast.runs.settings import RunSettings
from dfad_fast.sources.storage import NoStorage, Part


def files_of(folder, keep=2):
    return BankFiles(folder, keep, memory=0)


def names_in(folder):
    return sorted(path.name for path in (folder / "bank").iterdir())


TENSORS = {"pixels": torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2), "logits": torch.randn(2, 0, 4)}


def test_what_is_kept_is_read_as_it_was(tmp_path):
    kept = files_of(tmp_path).keep("00000000", TENSORS)
    for found in (kept, files_of(tmp_path).read("00000000")):
        assert {name: x.dtype for name, x in found.items()} == {
            "pixels": torch.uint8,
            "logits": torch.float32,
        }
        assert all(torch.equal(found[name], x) for name, x in TENSORS.items())
    assert files_of(tmp_path).names() == ["00000000"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_it_is_deleted_when_no_kept_checkpoint_may_name_it(tmp_path, keep):
    files = files_of(tmp_path, keep)
    for name in ("00000000", "00000001"):
        files.keep(name, TENSORS)
    files.saved()
    files.remove("00000000")
    for _ in range(keep - 1):
        files.saved()
        assert len(names_in(tmp_path)) == 2
    files.remove("00000000")  # again, which changes nothing
    files.saved()
    assert names_in(tmp_path) == ["00000001.safetensors"]
    files.saved()


@pytest.mark.parametrize("again", ["keep", "read"])
def test_what_is_in_use_again_is_not_deleted(tmp_path, again):
    files = files_of(tmp_path, 1)
    files.keep("00000000", TENSORS)
    files.remove("00000000")
    getattr(files, again)("00000000", *([TENSORS] if again == "keep" else []))
    files.saved()
    assert names_in(tmp_path) == ["00000000.safetensors"]


def test_a_missing_or_damaged_file_is_named(tmp_path):
    files = files_of(tmp_path)
    with pytest.raises(
        RunError, match=r"00000007.safetensors, which belongs to the run's bank, cannot be read"
    ):
        files.read("00000007")
    files.keep("00000000", TENSORS)
    path = tmp_path / "bank" / "00000000.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match="start over with dfad-fast distill --overwrite"):
        files.read("00000000")


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    files = files_of(tmp_path)
    files.keep("00000000", TENSORS)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files, "_flush", full)
    with pytest.raises(RunError, match=r"cannot write .*00000001.safetensors: .*No space left.*make room"):
        files.keep("00000001", TENSORS)
    assert names_in(tmp_path) == ["00000000.safetensors"]


def test_what_a_killed_run_left_half_written_goes_with_the_next_one(tmp_path):
    files_of(tmp_path).keep("b-00000000", TENSORS)
    for name in (
        ".00000001-_ab1c2d3.safetensors",
        ".b-00000001-abcdefgh.safetensors",
        ".own-abcdefgh.safetensors",
    ):
        (tmp_path / "bank" / name).write_text("torn")
    RunFolder(tmp_path, resume=True)
    assert names_in(tmp_path) == [".own-abcdefgh.safetensors", "b-00000000.safetensors"]


def test_nothing_is_written_over_the_bank_of_a_run_that_has_the_folder_now(tmp_path):
    files = files_of(tmp_path)
    other = replace(lock.Owner.this(), process=os.getppid(), started=start_of(os.getppid()))
    lock._create(tmp_path / "run.lock", other)
    with pytest.raises(UsageError, match=f"process {os.getppid()} is writing to"):
        files.keep("00000000", TENSORS)
    assert not (tmp_path / "bank").exists()


def test_several_processes_read_what_a_single_one_has_left(tmp_path, monkeypatch):
    files_of(tmp_path).keep("00000000", TENSORS)
    monkeypatch.setattr(processes, "count", lambda: 2)
    storage = storage_for(RunSettings(out=tmp_path, bank_memory=0.5))
    assert storage.memory == 2**29
    assert torch.equal(storage.read("00000000")["pixels"], TENSORS["pixels"])


def test_they_go_with_the_run_and_nothing_else_does(tmp_path):
    RunFolder(tmp_path).write_config({"seed": 1})
    files_of(tmp_path).keep("b-00000000", TENSORS)
    own = tmp_path / "bank" / "mine.safetensors"
    own.write_text("not a run's file")
    RunFolder(tmp_path, overwrite=True)
    assert names_in(tmp_path) == ["mine.safetensors"]
    own.unlink()
    RunFolder(tmp_path, overwrite=True)
    assert not (tmp_path / "bank").exists()


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bank").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link to somewhere else"):
        RunFolder(tmp_path / "run")


def test_parts_do_not_see_each_other(tmp_path):
    files = files_of(tmp_path, 1)
    first, second = Part(files, "0"), Part(files, "1")
    first.keep("00000000", TENSORS)
    second.keep("00000000", {"pixels": torch.zeros(1)})
    assert (list(first.names()), list(second.names())) == (["00000000"], ["00000000"])
    assert torch.equal(first.read("00000000")["pixels"], TENSORS["pixels"])
    second.remove("00000000")
    second.saved()
    assert names_in(tmp_path) == ["0-00000000.safetensors"]
    assert first.is_there


def test_without_a_folder_there_is_none():
    storage = NoStorage(5)
    assert (storage.memory, storage.is_there, list(storage.names())) == (5, False, [])
    for use in (lambda: storage.keep("0", TENSORS), lambda: storage.read("0")):
        with pytest.raises(UsageError, match="give one, as out="):
            use()
