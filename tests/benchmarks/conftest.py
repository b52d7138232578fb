from contextlib import contextmanager
from multiprocessing import get_context

import pytest

from benchmarks.accuracy import runs as accuracy_runs
from benchmarks.measuring import process
from benchmarks.methods import runs


@pytest.fixture(scope="session")
def forking():
    """A context in which processes begin with what they need imported, which would take most of their time. The
    environment is then this process's: tests about allocators and compilers do without."""

    @contextmanager
    def begin():
        context = get_context("forkserver")
        # The first to start such a server decides for all: what the processes of other tests need as well.
        context.set_forkserver_preload(
            [
                *("benchmarks.step.contestant", "benchmarks.ops.contestant", "benchmarks.methods.runs"),
                *("dfad_fast.training.trainer", "matplotlib.figure", "jinja2", "PIL.Image", "torch._dynamo"),
            ]
        )
        with pytest.MonkeyPatch.context() as patch:
            for module in (process, runs, accuracy_runs):
                patch.setattr(module, "get_context", lambda _: context)
            yield

    return begin
