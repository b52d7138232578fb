"""Blocks and bytes on their way, from what a compiler tells; the compiler itself takes minutes."""

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.occupancy import compiled, report
from benchmarks.occupancy.devices import DEVICES, LATENCY
from tests.cuda.registers import Kernel


@pytest.mark.parametrize(
    ("registers", "shared", "blocks"),
    [(32, 0, 8), (33, 0, 6), (64, 64, 4), (65, 0, 3), (128, 0, 2), (255, 0, 1), (16, 70_000, 2)],
)
def test_blocks_that_an_a100_holds(registers, shared, blocks):
    assert DEVICES["sm_80"].blocks(256, registers, shared) == blocks


def test_bytes_on_their_way_beside_littles_law():
    row = compiled.row(Kernel("l1.cu: losses<float>", "sm_90", 56, 0, 0, 64))
    assert (row["blocks"], row["float32"], row["bfloat16"]) == (4, 4 * 256 * 2 * 8 * 4, 4 * 256 * 2 * 8 * 2)
    assert row["wanted"] == round(3.35e12 * LATENCY / 132)
    assert (
        "| l1.cu: losses<float> | sm_90 | 56 | 0 | 4 | 64 KiB | 32 KiB | 14.9 KiB |"
        in report.sheet([row]).markdown()
    )


def test_without_nvcc_it_says_so(monkeypatch):
    monkeypatch.setattr(
        compiled, "missing", lambda: "nvcc not found: the PTX of the CUDA kernels cannot be had"
    )
    done = CliRunner().invoke(run.main, ["occupancy"])
    assert done.exit_code == 1
    assert done.output == "Error: nvcc not found: the PTX of the CUDA kernels cannot be had\n"
