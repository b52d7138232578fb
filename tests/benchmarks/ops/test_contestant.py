"""One contender on tiny inputs: that it measures rightly, not how fast anything is."""

import time

import pytest
import torch

from benchmarks.measuring.results import OURS
from benchmarks.ops import report
from benchmarks.ops.contestant import Ceiling, Contestant
from benchmarks.ops.instruments import health, peak_bytes
from benchmarks.ops.problems import Case
from benchmarks.ops.registry import BACKWARD, FORWARD, GRAPH, MODES

from .tiny import tiny


def test_peak_memory_of_known_tensors():
    def step():
        first = torch.empty(2**18)  # 1 MiB
        second = torch.empty(2**19)
        del first
        third = torch.empty(2**18)
        return second, third

    assert peak_bytes(step, "cpu") == 3 * 2**20


def test_peak_memory_of_the_fused_op_is_below_the_formulas():
    case = Case("boundary_hinge_loss", ((64, 64, 8, 8),), "small")
    elements = 64 * 64 * 8 * 8
    ours, published = (Contestant(case, name, "cpu").peak() for name in (OURS, "eager, published"))
    assert 4 * elements <= ours <= 4.5 * elements  # the gradient and one bit per element
    assert published > 4 * ours


@pytest.mark.parametrize("mode", MODES)
def test_samples_are_per_call(mode):
    contestant = Contestant(tiny("l1_discrepancy"), OURS, "cpu")
    made = []
    calls = contestant.calls
    contestant.calls = lambda mode, count: made.append(count) or calls(mode, count)
    samples = contestant.measure(mode, 0.01, 0.02)
    assert samples.calls > 1
    assert set(made[-len(samples.seconds) :]) == {samples.calls}
    assert all(0 < seconds < 1e-2 for seconds in samples.seconds)


def test_a_longer_call_takes_longer():
    contestant = Contestant(tiny("l1_discrepancy"), OURS, "cpu")
    contestant.call = lambda: time.sleep(0.004)
    samples = contestant.measure(FORWARD, 0.0, 0.01)
    assert samples.calls == 1
    assert 0.004 <= min(samples.seconds) < 0.1


def test_a_graph_is_captured_once_and_replayed(monkeypatch):
    contestant = Contestant(tiny("l1_discrepancy"), OURS, "cpu")
    captured = []

    class Graph:
        replays = 0

        def replay(self):
            self.replays += 1

    monkeypatch.setattr("benchmarks.ops.contestant.capture", lambda step: captured.append(step) or Graph())
    calls = contestant.calls(GRAPH, 2) + contestant.calls(GRAPH, 1)
    assert captured == [contestant.step]
    for call in calls:
        call()
    assert contestant._graph.replays == 3


def test_copies_move_the_least_bytes():
    case = Case("l1_discrepancy", ((64, 64),), "small")
    copy_, read = Ceiling(case, "copy", "cpu"), Ceiling(case, "read", "cpu")
    least = 64 * 64 * 4 + 2 * 64 * 64 // 8
    assert copy_.prepare()["moved"][BACKWARD] == least
    for ceiling in (copy_, read):
        ceiling.measure(BACKWARD, 0.0, 0.0)
        assert sum(x.nbytes for x in ceiling._buffers) == least


def test_health_of_compiled_code():
    vector = (
        'extern "C" void kernel(float* out_ptr0) { for(;;) at::vec::Vectorized<float>(0).store(out_ptr0); }'
    )
    scalar = 'extern "C" void kernel(float* out_ptr0) { for(;;) out_ptr0[0] = 0; }'
    masks = 'extern "C" void kernel(bool* out_ptr0) { for(;;) at::vec::VecMask<float,1>(x).store(out_ptr0); }'
    assert health([vector + scalar, masks]) == {
        "kernels": 3,
        "vectorized_kernels": 2,
        "mask_kernels": 1,
    }
    state = {"problem": None, **health([vector, scalar])}
    assert report._state(state) == "unhealthy: 1 of 2 kernels are scalar code"
    assert (
        report._state({"problem": None, **health([masks])}) == "unhealthy: masks are handled by scalar code"
    )
    assert report._state({"problem": None, **health([vector])}) == "vectorized"
    assert report._state({"problem": "wrong"}) == "out: wrong"
