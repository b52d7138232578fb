"""``--backend`` and ``--device``: what the tests of ops are about. Pictures are drawn once."""

import io
import os
import sys
from pathlib import Path

import pytest

# Read when torch is imported. Threads that spin for each other bring a busy machine to a halt.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


from tests import under_test

GIB = 1 << 30
_deselected: dict[str, int] = {}
_drawn: dict[tuple[float, ...], bytes] = {}


def pytest_addoption(parser):
    parser.addoption(
        "--backend", choices=under_test.BACKENDS, default="cpp", help="backend of the ops' tests"
    )
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="device of the ops' tests")


def pytest_configure(config):
    config.addinivalue_line("markers", "backends(*names): about these backends only; deselected for others")
    config.addinivalue_line(
        "markers", "memory(gib): needs this much free memory; deselected where there is less"
    )
    config.addinivalue_line("markers", "pictures: draws every picture in earnest")
    under_test.backend = config.getoption("--backend")
    if under_test.backend == "triton" and config.getoption("--device") == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which is later
    if under_test.backend in under_test.PTX:
        from tests.ptx.emulator import know_tensors

        know_tensors()  # before a file of tests makes one


@pytest.fixture(autouse=True)
def _pictures_drawn_once(request, monkeypatch):
    """One picture of each size is drawn in earnest, and its bytes are every further one's: drawing takes most of the
    time of a short run. Tests about pictures are marked so."""
    module = sys.modules.get("matplotlib.figure")
    if module is None or request.node.get_closest_marker("pictures"):
        return
    draw = module.Figure.savefig

    def save(figure, path, **options):
        kind = (*figure.get_size_inches(), len(figure.axes))
        if kind not in _drawn:
            file = io.BytesIO()
            draw(figure, file, format="png", **{k: v for k, v in options.items() if k != "format"})
            _drawn[kind] = file.getvalue()
        Path(path).write_bytes(_drawn[kind])

    monkeypatch.setattr(module.Figure, "savefig", save)


def available_memory():
    try:
        with open("/proc/meminfo") as lines:
            kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 0.0
    return kib * 1024 / GIB


def reason_to_deselect(item):
    """Why the test is not about this run, or an empty string."""
    about = item.get_closest_marker("backends")
    if about and under_test.backend not in about.args:
        return f"not about backend {under_test.backend}"
    memory = item.get_closest_marker("memory")
    if memory and available_memory() < memory.args[0]:
        return f"less than {memory.args[0]} GiB of memory available"
    return ""


def pytest_collection_modifyitems(config, items):
    kept, dropped = [], []
    for item in items:
        reason = reason_to_deselect(item)
        if reason:
            _deselected[reason] = _deselected.get(reason, 0) + 1
        (dropped if reason else kept).append(item)
    items[:] = kept
    if dropped:
        config.hook.pytest_deselected(items=dropped)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"ops' backend: {under_test.backend}")
    for reason, count in _deselected.items():
        terminalreporter.write_line(f"deselected: {count} ({reason})")


@pytest.fixture
def pair():
    """A teacher with lived-in batch norm statistics and a narrower student, for images [1, 8, 8]."""
    import torch

    from tests.small_networks import make_net

    torch.manual_seed(0)
    teacher, student = make_net(8), make_net(4)
    teacher.train()
    for _ in range(20):
        teacher(torch.randn(32, 1, 8, 8) * 1.5 + 0.3)
    return teacher.eval(), student
