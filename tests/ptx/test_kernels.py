"""The PTX that nvcc and Triton make of the kernels, run in the emulator: values, accesses, and faults put in. A few
kernels; `make test-ptx` runs all, and all tests of the ops on them."""

import functools
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from benchmarks.sectors.counting import used
from tests.cuda.build_shim import ROOT
from tests.ptx import coalescing
from tests.ptx.build import missing
from tests.ptx.exercise import CALLS
from tests.ptx.mutants import MUTANTS

nvcc = pytest.mark.skipif(bool(missing()), reason=missing())
# The PTX of one source takes nvcc half a minute.
SHORT = "l1"
pytestmark = pytest.mark.timeout(900)


def of(kernel, *more):
    marks = () if kernel == SHORT else (pytest.mark.slow, pytest.mark.ptx)
    return pytest.param(kernel, *more, marks=marks, id=more[0] if more else kernel)


def run(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"tests.ptx.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@nvcc
@pytest.mark.parametrize(
    "kernel",
    [of(kernel) for kernel in CALLS],
)
def test_nvccs_ptx_is_sound_and_agrees_with_the_references(kernel):
    done = run("exercise", "cuda", kernel)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_tritons_ptx_is_sound_and_agrees_with_the_references():
    done = run("exercise", "triton", "l1", "boundary_hinge", "kl", "mixing", "channel_statistics")
    assert done.returncode == 0, done.stderr


@functools.cache
def seen(kernel):
    done = run("mutants", kernel)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@nvcc
@pytest.mark.parametrize(("kernel", "name"), [of(mutant.kernel, mutant.name) for mutant in MUTANTS])
def test_a_fault_in_the_ptx_shows(kernel, name):
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    assert seen(kernel)[""] == ""
    assert mutant.shows in seen(kernel)[name]


@nvcc
@pytest.mark.parametrize("kernel", [of(kernel) for kernel in coalescing.OPS])
def test_requests_use_the_sectors_that_they_move(kernel):
    done = run("coalescing", kernel)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout.splitlines()[-1]):
        for kind in ("load", "store"):
            share = used(row, kind)
            if share is None:  # a reduced loss, which a single lane stores
                assert kind == "store", row
                assert row["single"], row
            else:
                assert share >= coalescing.least(row, kind), (kind, row)
