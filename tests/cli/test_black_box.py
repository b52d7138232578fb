"""``--teacher-url`` and ``--teacher-answers``: runs against the example server, killed in their midst too."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from examples.teacher_server import TeacherServer
from tests.small_networks import make_net

pytest.importorskip("urllib3")


class Watched(TeacherServer):
    """Slow enough to be asked while its client is killed; knows all images that it was counted for."""

    def __init__(self, pause=0.0):
        torch.manual_seed(0)
        network = make_net(6, 3).eval()
        self.seen = []

        def ask(images):
            self.seen += [image.numpy().tobytes() for image in images]
            time.sleep(pause)
            return network(images).softmax(1)

        super().__init__(0, ask)


@contextmanager
def watched(pause=0.0):
    with Watched(pause) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def arguments(own, server, out, *further):
    assert own[:4] == ["--teacher", "own.py:teacher", "--teacher-weights", "teacher.pt"]
    return [
        *("distill", "--teacher-url", server.url, "--classes", "3", *own[4:-1], str(out)),
        *("--method", "dfme", *further),
    ]


def test_a_run_against_a_server_ends_with_its_budget(dfad_fast, own, tmp_path):
    own[own.index("--iterations") + 1] = "9"
    with watched() as server:
        result = dfad_fast(*arguments(own, server, "run", "--query-budget", "300"))
    assert result.code == 0
    assert "the query budget of 300 is used up: 288 images were sent and 32 more" in result.err
    assert "288 (probabilities)" in result.out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["queries"] == server.count == len(set(server.seen)) == 288


def test_a_network_is_taken_as_a_black_box(dfad_fast, own, tmp_path):
    result = dfad_fast("distill", *own, "--teacher-answers", "labels")
    assert result.code == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["method"], summary["teacher_answers"], summary["queries"]) == (
        "dfme",
        "labels",
        2 * 7 * 32,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--minutes", "1"], "--minutes would spend queries"),
        (["--teacher", "own.py:teacher"], "name two teachers"),
        (["--teacher-answers", "guess"], "unknown kind of answers"),
        (["--query-retries", "-1"], "--query-retries must be at least 0"),
    ],
)
def test_settings_that_do_not_fit(dfad_fast, own, tmp_path, changes, said):
    if "--minutes" in changes:
        at = own.index("--iterations")
        del own[at : at + 2]
    with watched() as server:
        result = dfad_fast(*arguments(own, server, "run", *changes))
    assert result.code == 2
    assert said in result.err
    assert server.count == 0


def test_a_budget_without_a_black_box(dfad_fast, own):
    result = dfad_fast("distill", *own, "--query-budget", "9")
    assert result.code == 2
    assert "--query-budget is for a black-box teacher" in result.err


def test_an_address_with_a_query_is_not_recorded(dfad_fast, tmp_path):
    place = ("--student", "lenet5", "--classes", "3", "--image-shape", "1,8,8", "--out", "run")
    result = dfad_fast("distill", "--teacher-url", "http://127.0.0.1:1/?key=hidden", *place)
    assert result.code == 2
    assert "--teacher-url has a query" in result.err
    assert "hidden" not in result.err
    assert not (tmp_path / "run").exists()


def test_classes_and_shape_are_needed(dfad_fast):
    result = dfad_fast("distill", "--teacher-url", "http://127.0.0.1:1/", "--student", "lenet5")
    assert result.code == 2
    assert "--image-shape CHANNELS,HEIGHT,WIDTH and --classes N" in result.err


def start(folder, *command):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-m", "dfad_fast", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_asks_nothing_twice(own, tmp_path):
    budget = 1500  # 6 iterations of 7 batches of 32, and a part of the next
    own[own.index("--iterations") + 1] = "20"
    further = ("--query-budget", str(budget), "--checkpoint-iterations", "2", "--checkpoint-seconds", "0.1")
    with watched() as other:
        finish(start(tmp_path, *arguments(own, other, tmp_path / "whole", *further)))
    with watched(pause=0.03) as server:
        process = start(tmp_path, *arguments(own, server, tmp_path / "killed", *further))
        for at in (100, 500, 1000):
            while server.count < at:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            process = start(tmp_path, "resume", str(tmp_path / "killed"))
        finish(process)
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "killed")]
    assert summaries[0]["queries"] == other.count
    assert summaries[1]["queries"] == server.count == len(server.seen) == len(set(server.seen)) <= budget
    assert server.seen == other.seen
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "killed")]
    assert students[0] == students[1]
