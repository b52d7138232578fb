"""What happens to a run from outside: full disks, a teacher that fails, damaged and hostile files."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FAILING_TEACHER = """

class Tired(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.calls = teacher(), 0

    def forward(self, x):
        self.calls += self.net[0].weight.grad_fn is None
        if self.calls > 60:
            raise ValueError("had enough")
        return self.net(x)

    def state_dict(self, *args, **kwargs):
        return self.net.state_dict(*args, **kwargs)

    def load_state_dict(self, state, *args, **kwargs):
        return self.net.load_state_dict(state, *args, **kwargs)
"""


def test_a_teacher_that_fails_leaves_the_last_good_state(dfad_fast, own, tmp_path):
    with (tmp_path / "own.py").open("a") as file:
        file.write(FAILING_TEACHER)
    own[own.index("own.py:teacher")] = "own.py:Tired"
    own[own.index("--iterations") + 1] = "30"
    failed = dfad_fast("distill", *own, "--student-init", "random")
    assert failed.code == 1
    *warned, last = failed.err.splitlines()
    assert "failed (ValueError: had enough); everything is back at the last good state" in last
    assert all(line.startswith("dfad-fast: not ") for line in warned)  # measured or drawn
    assert "had enough" in (tmp_path / "run/traceback.txt").read_text()
    again = dfad_fast("resume", "run")  # as far as it comes this time
    assert "resuming from iteration" in again.out
    assert "Traceback" not in again.err


FILLING_UP = '''
"""A run whose disk is full from its third iteration to its sixth."""
import resource, shutil, sys
from pathlib import Path
import torch
from dfad_fast import DFADTrainer
from dfad_fast.runs import checkpoints
from dfad_fast.runs.metrics_file import read_records
from tests.small_networks import make_net

how, folder = sys.argv[1], Path(sys.argv[2])
filler = folder.parent / "filler"
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

def fill():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        return
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

def empty():
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    filler.unlink(missing_ok=True)

class Disk:
    def advance(self, iteration):
        if iteration == 3:
            fill()
        if iteration == 6:
            assert checkpoints.read(folder)["iteration"] == 2, "the last one before the disk was full"
            empty()

    def log(self, record):
        pass

torch.manual_seed(0)
trainer = DFADTrainer(
    make_net(8).eval(), make_net(4), (1, 8, 8), "dfad", latent_dim=8, batch_size=8, out=folder, checkpoint_iterations=1,
)
summary = trainer.fit(8, progress=Disk())
assert checkpoints.read(folder)["iteration"] == summary["iterations"] == 8
assert not [path for path in folder.iterdir() if path.name.startswith(".")]
# No line is torn, and nothing after the full disk is lost.
recorded = [record["iteration"] for record in read_records(folder / "metrics.jsonl")]
assert recorded[:2] == [1, 2] and recorded[-2:] == [7, 8], recorded
'''


def disk_of(tmp_path, how):
    """A folder, on a disk of its own of half a megabyte where ``how`` asks for one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if how == "tmpfs":
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("a disk of its own cannot be mounted here (no root)")
    return folder


@pytest.mark.parametrize("how", ["limit", "tmpfs"])
def test_a_disk_that_is_full_for_a_while_ends_no_run(tmp_path, how):
    if sys.platform == "win32" or (how == "tmpfs" and sys.platform != "linux"):
        pytest.skip("needs a limit on file sizes, or tmpfs")
    folder = disk_of(tmp_path, how)
    (tmp_path / "run.py").write_text(FILLING_UP)
    try:
        done = subprocess.run(
            [sys.executable, str(tmp_path / "run.py"), how, str(folder / "run")],
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        if how == "tmpfs":
            subprocess.run(["umount", str(folder)], check=False)
    assert done.returncode == 0, done.stderr
    assert "training continues, and the previous checkpoint is kept" in done.stderr
    assert ("File too large" if how == "limit" else "No space left on device") in done.stderr


def cut(data, _):
    return data[: len(data) // 2]


def flip(data, source):
    flipped = bytearray(data)
    for _ in range(20):
        flipped[source.randrange(len(flipped))] ^= 1 << source.randrange(8)
    return bytes(flipped)


def nothing(_data, _source):
    return b""


def wrong_yaml(_data, _source):
    return b"[1, 2]\n"


@pytest.mark.slow
def test_damaged_files_are_one_line_each(dfad_fast, own, tmp_path):
    """Whatever is wrong with the files of a run: no command ends in a traceback, or in something else's mistake."""
    own[own.index("--iterations") + 1] = "4"
    assert dfad_fast("distill", *own, "--checkpoint-iterations", "2").code == 0
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("iterations: 4", "iterations: 6"))
    whole = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    source = random.Random(0)
    codes = set()
    samples = {"inspect": ("--samples", "32")}
    for path in sorted(whole):
        if path.suffix in (".png", ".html"):
            continue
        weights = path.suffix in (
            ".pt",
            ".safetensors",
        )  # which may be any bytes, and which the last two do not read
        for damage in (cut, flip, nothing) if weights else (cut, flip, nothing, wrong_yaml):
            for command in (
                "resume",
                "inspect",
                *(() if weights and damage is not cut else ("compare", "report")),
            ):
                for other_path, data in whole.items():
                    other_path.write_bytes(data)
                path.write_bytes(damage(whole[path], source))
                done = dfad_fast(command, "run", *samples.get(command, ()))
                codes.add(done.code)
                assert done.code in (0, 1, 2), (path.name, damage.__name__, command)
                assert "Traceback" not in done.err
                for line in done.err.splitlines():
                    assert line.startswith("dfad-fast: "), (path.name, damage.__name__, command, line)
    assert codes == {0, 2}


def test_a_strangers_configuration_runs_nothing_and_writes_nowhere_else(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own, "--checkpoint-iterations", "1").code == 0
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    elsewhere = tmp_path / "elsewhere"
    config["distill"] |= {"out": str(elsewhere), "teachers": str(elsewhere), "iterations": 3}
    path.write_text(yaml.safe_dump(config))
    resumed = dfad_fast("resume", "run")
    assert resumed.code == 0, resumed.err
    assert "running the code in own.py, as requested" in resumed.out
    assert dfad_fast("distill", "--config", "run", "--out", "again").code == 0
    # A dataset's teacher, which distill would train, resume does not train. Neither writes there.
    config["distill"] |= {"dataset": "digits", "teacher": None, "teacher_weights": None, "student": None}
    path.write_text(yaml.safe_dump(config))
    refused = dfad_fast("resume", "run")
    assert refused.code == 2
    assert "there is no teacher" in refused.err
    assert not elsewhere.exists()


def test_yaml_that_would_run_code_runs_none(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own).code == 0
    mark = tmp_path / "mark"
    (tmp_path / "run/config.yaml").write_text(f"distill: !!python/object/apply:os.mkdir ['{mark}']\n")
    for command in (
        ("resume", "run"),
        ("inspect", "run"),
        ("compare", "run"),
        ("distill", "--config", "run"),
    ):
        done = dfad_fast(*command)
        assert done.code == 2, command
        assert done.err.count("\n") == 1
    assert not mark.exists()


def test_a_folder_that_is_not_to_be_written_to_fails_before_anything_is_trained(dfad_fast, own, tmp_path):
    (tmp_path / "file").write_text("mine")
    own[own.index("--out") + 1] = "file/run"
    done = dfad_fast("distill", *own)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "give one that can be written to" in done.err
    if os.geteuid() != 0:  # whom no permission stops
        (tmp_path / "locked").mkdir(mode=0o500)
        own[own.index("--out") + 1] = "locked/run"
        assert dfad_fast("distill", *own).code == 1


@pytest.mark.parametrize(
    ("student", "message"),
    [("resnet21", "unknown network 'resnet21'"), ("lenet5", "LeNet-5 takes images of")],
)
def test_a_student_that_cannot_be_built_fails_before_a_teacher_is_trained(
    dfad_fast, tmp_path, student, message
):
    done = dfad_fast("distill", "--dataset", "digits", "--student", student, "--teachers", "teachers")
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "teachers").exists()


def test_links_in_a_runs_folder_lead_nowhere(dfad_fast, own, tmp_path):
    """As a stranger's archive may hold them: what they lead to is neither written to nor removed."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/000001.png").write_text("mine")
    assert dfad_fast("distill", *own).code == 0
    shutil.rmtree(tmp_path / "run/samples")
    (tmp_path / "run/samples").symlink_to(tmp_path / "elsewhere")
    refused = dfad_fast("distill", *own, "--overwrite")
    assert refused.code == 2
    assert "is a link to somewhere else" in refused.err
    assert [path.read_text() for path in (tmp_path / "elsewhere").iterdir()] == ["mine"]


def test_few_lines_that_stand_for_many_are_refused(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own).code == 0
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(12))
    (tmp_path / "run/config.yaml").write_text(bomb + "distill: *a11\n")
    for command in ("resume", "inspect", "compare"):
        assert dfad_fast(command, "run").code == 2
    assert dfad_fast("report", "run").code == 0
