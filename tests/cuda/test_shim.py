"""The CUDA kernels, compiled by g++ and run on the CPU with a fiber for each thread: see build_shim.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.build_shim import COMPILER, CSRC, ROOT, SANITIZE, build_mutant, build_shim

pytestmark = [
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no C++ compiler"),
    pytest.mark.timeout(900),
]


def exercise(library: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.cuda.exercise", library],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("seed", ["1", "2"])
def test_kernels_agree_with_the_references_whatever_the_order_of_threads(seed):
    done = exercise(build_shim(), CUDA_SHIM_SEED=seed)
    assert done.returncode == 0, done.stderr


BARRIER = "  __syncthreads();"


def mutant(folder: Path, header: str, kernel: str, barrier: int, instead: str) -> Path:
    changed = shutil.copytree(CSRC, folder / "csrc")
    before = (changed / "cuda" / header).read_text().split(BARRIER)
    assert len(before) > barrier + 1
    before[barrier : barrier + 2] = [before[barrier] + instead + before[barrier + 1]]
    (changed / "cuda" / header).write_text(BARRIER.join(before))
    return build_mutant(changed, kernel, folder)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("header", "kernel", "barrier"),
    [
        ("reduce.cuh", "l1.cu", 0),
        ("reduce.cuh", "boundary_hinge.cu", 1),
        ("rows.cuh", "mixing.cu", 0),
        ("row_statistics.cuh", "kl.cu", 0),
        ("row_statistics.cuh", "kl.cu", 1),
        ("channel_statistics.cu", "channel_statistics.cu", 0),
        ("channel_tiles.cuh", "batch_norm_act.cu", 0),
        ("batch_norm_act.cu", "batch_norm_act.cu", 0),
    ],
)
def test_a_missing_barrier_shows(tmp_path, header, kernel, barrier):
    done = exercise(mutant(tmp_path, header, kernel, barrier, instead=""))
    assert done.returncode != 0
    assert "AssertionError" in done.stderr, done.stderr


def test_a_barrier_that_a_thread_never_reaches_shows(tmp_path):
    done = exercise(
        mutant(tmp_path, "reduce.cuh", "l1.cu", 0, instead="if (threadIdx.x != 5) __syncthreads();")
    )
    assert done.returncode != 0
    assert "deadlock" in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_sanitizers_find_nothing():
    runtime, standard = (
        subprocess.run(
            [COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    )
    if not Path(runtime).is_file():
        pytest.skip("the compiler has no AddressSanitizer")
    done = exercise(
        build_shim(SANITIZE),
        # With the standard library loaded from the start, AddressSanitizer can intercept exceptions. Python does not
        # load it, and Triton throws while it is imported.
        LD_PRELOAD=f"{runtime} {standard}",
        # Python and torch leave memory to the end of the process.
        ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=0",
        UBSAN_OPTIONS="print_stacktrace=1",
    )
    assert done.returncode == 0, done.stderr
