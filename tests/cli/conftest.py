import sys
from types import SimpleNamespace

import pytest

from dfad_fast import cli


@pytest.fixture
def dfad_fast(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dfad-fast", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=caught.value.code or 0, out=out, err=err)

    return run


@pytest.fixture
def plugins_forgotten():
    """Forgets what plugins made known, now and at the test's end."""
    from dfad_fast.methods import METHODS
    from dfad_fast.terms import TERMS

    before = dict(TERMS), dict(METHODS)

    def forget():
        for registry, kept in zip((TERMS, METHODS), before, strict=True):
            registry.clear()
            registry.update(kept)

    yield forget
    forget()


OWN_TEACHER = """
import torch
from torch import nn

def teacher():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )

def student():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )

def five_classes():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def features():
    return nn.Conv2d(1, 3, 3)

def answers_nan():
    class Bad(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = teacher()
        def forward(self, x):
            # In the student's steps; a look before the run would refuse it.
            return self.net(x) * float("nan") if len(x) == 32 and not torch.is_grad_enabled() else self.net(x)
    return Bad()
"""


@pytest.fixture
def own(tmp_path):
    """A file of the user's with a teacher and students, and the teacher's weights."""
    import torch

    (tmp_path / "own.py").write_text(OWN_TEACHER)
    namespace = {}
    exec(OWN_TEACHER, namespace)
    torch.manual_seed(0)
    torch.save(namespace["teacher"]().state_dict(), tmp_path / "teacher.pt")
    return [
        *("--teacher", "own.py:teacher", "--teacher-weights", "teacher.pt"),
        *("--student", "own.py:student", "--image-shape", "1,8,8"),
        *("--batch-size", "32", "--latent-dim", "8", "--iterations", "2", "--out", "run"),
    ]
