"""Contenders' processes: what becomes of one that dies or falls silent, and of its memory."""

import os
import signal
from dataclasses import replace

import pytest

from benchmarks.measuring.process import Lost, Process
from benchmarks.measuring.results import OURS
from benchmarks.ops.arena import MODULE
from benchmarks.ops.problems import Case
from benchmarks.ops.registry import BOTH

from ..ops.tiny import FAST, tiny


def test_a_process_that_dies_is_out_and_named(tmp_path):
    process = Process(FAST, "pinned", tmp_path, MODULE)
    try:
        process.ask("enter", tiny("l1_discrepancy"), OURS)
        process.answer()
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.join()
        with pytest.raises(Lost, match="SIGKILL"):
            process.ask("check")
    finally:
        process.close()


def test_a_silent_process_is_ended(tmp_path):
    process = Process(replace(FAST, answer_seconds=0.01), "pinned", tmp_path, MODULE)
    process.ask("enter", tiny("l1_discrepancy"), OURS)
    with pytest.raises(Lost, match="no response within"):
        process.answer()
    assert not process._process.is_alive()


def test_pinned_memory_is_not_faulted_in_again(tmp_path):
    # 64 MiB gradients: beyond the size up to which the C library keeps memory by itself.
    case = Case("l1_discrepancy", ((2**24,),), "large")
    faults = {}
    for allocator in ("pinned", "default"):
        process = Process(FAST, allocator, tmp_path, MODULE)
        try:
            process.ask("enter", case, OURS)
            # Until freed blocks have joined, the heap grows by a block with each call.
            for _ in range(8):
                process.ask("measure", BOTH, 0.0, 0.0)
            *_, last = (process.answer() for _ in range(9))
        finally:
            process.close()
        faults[allocator] = last.faults
    assert faults["pinned"] < 100 < 16000 < faults["default"]
