"""The benchmark of the ops: runs the race of every case."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.memory import memory_available
from benchmarks.measuring.results import Results, begin
from benchmarks.measuring.settings import Settings
from benchmarks.measuring.terminal import Progress
from benchmarks.ops.arena import Arena, memory_needed
from benchmarks.ops.problems import Case
from benchmarks.ops.registry import GRAPH, OPS


def run(cases: Sequence[Case], settings: Settings, progress: Progress, with_compile: bool = True) -> Results:
    """Results as plain data. After an interrupt they contain the measurements so far."""
    results = {**begin("ops", settings), "contestants": []}
    races = [(case, "pinned") for case in cases]
    races += [(case, "default") for case in cases if case.unpinned and settings.device == "cpu"]
    try:
        with Arena(settings) as arena:
            for number, (case, allocator) in enumerate(races):
                progress(number, len(races), case.name)
                if settings.device == "cpu" and memory_needed(case) > memory_available():
                    reason = f"about {memory_needed(case) / 2**30:.0f} GiB of free memory are needed"
                    results["skipped"].append({"case": case.name, "reason": reason})
                    continue
                op = OPS[case.op]
                modes = op.modes if allocator == "pinned" else op.modes[-1:]
                if settings.device == "cuda":
                    modes = (*modes, GRAPH)
                contenders = [n for n in op.contenders if with_compile or not n.startswith("compile")]
                race = arena.race(case, contenders, modes, allocator)
                results["rows"] += race["rows"]
                results["contestants"] += race["contestants"]
        results["complete"] = True
    except KeyboardInterrupt:
        pass
    return results
