"""What only a GPU can show: streams, devices, CUDA graphs, and that nobody waits for the GPU."""

import pytest
import torch

from dfad_fast import backends
from dfad_fast.ops import (
    batch_norm_act,
    batch_norm_statistics_loss,
    boundary_hinge_loss,
    interpolated_l1,
    kl_discrepancy,
    l1_discrepancy,
    mixup,
    pack_signs,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.skipif(
        backends.extension is None or not backends.extension.build_info().get("cuda"),
        reason="the extension was built without CUDA kernels",
    ),
]


def inputs(device="cuda"):
    student = torch.randn(64, 100, device=device, requires_grad=True)
    teacher = torch.randn(64, 100, device=device, requires_grad=True)
    features = torch.randn(16, 32, 16, 16, device=device, requires_grad=True)
    others = torch.randn(16, 32, 16, 16, device=device)
    return student, teacher, features, others, torch.rand(64, device=device), torch.randperm(64).to(device)


def total(student, teacher, features, others, lam, perm):
    """All ops in one number."""
    return (
        l1_discrepancy(student, teacher)
        + kl_discrepancy(student, teacher, 2.0)
        + interpolated_l1(student, teacher, lam, perm)
        + boundary_hinge_loss([features, features * 2], [others, pack_signs(others)])
        + batch_norm_statistics_loss(
            [features, student], [others[0, :, 0, 0], teacher[0]], [others[1, :, 0, 0], teacher[1]]
        )
        + batch_norm_act(features, teacher[0, :32], student[0, :32], residual=others).square().mean()
        + batch_norm_act(features.to(memory_format=torch.channels_last)).square().mean()
        + mixup(student, lam, perm).square().mean()
        + mixup(teacher, 0.3, perm).square().mean()
    )


def step(tensors):
    loss = total(*tensors)
    return (loss, *torch.autograd.grad(loss, tensors[:3]))


@pytest.fixture
def expected():
    tensors = inputs()
    on_cpu = [x.detach().cpu().requires_grad_(x.requires_grad) for x in tensors]
    return tensors, [x.detach() for x in step(on_cpu)]


def assert_equals(got, want):
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x.detach().cpu(), y, rtol=1e-5, atol=1e-6)


def test_results_are_the_cpus(expected):
    tensors, want = expected
    assert_equals(step(tensors), want)


def test_two_runs_agree_to_the_bit():
    tensors = inputs()
    for x, y in zip(step(tensors), step(tensors), strict=True):
        assert torch.equal(x, y)


def test_kernels_run_on_the_current_stream(expected):
    tensors, want = expected
    late = [x.detach().clone().zero_() if x.is_floating_point() else x.clone() for x in tensors]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        # A kernel on another stream would still read zeros.
        for x, y in zip(late, tensors, strict=True):
            x.copy_(y.detach())
        got = step([x.requires_grad_(y.requires_grad) for x, y in zip(late, tensors, strict=True)])
    stream.synchronize()
    assert_equals(got, want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_kernels_run_on_their_tensors_device(expected):
    tensors, want = expected
    there = [x.detach().to("cuda:1").requires_grad_(x.requires_grad) for x in tensors]
    with torch.cuda.device(0):
        got = step(there)
    assert all(x.device.index == 1 for x in got)
    assert_equals(got, want)


def test_nothing_waits_for_the_gpu():
    tensors = inputs()
    step(tensors)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(tensors)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_graph_can_be_captured_and_replayed():
    tensors = inputs()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(tensors)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step(tensors)
    fresh = inputs()
    with torch.no_grad():
        for x, y in zip(tensors, fresh, strict=True):
            x.copy_(y)
    graph.replay()
    for x, y in zip(outputs, step(fresh), strict=True):
        assert torch.equal(x, y)


def test_losses_on_several_streams_and_in_a_replayed_graph_at_once():
    student, teacher = (torch.randn(1 << 22, device="cuda") for _ in range(2))
    want = l1_discrepancy(student, teacher)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = l1_discrepancy(student, teacher)
    *eager, replaying = (torch.cuda.Stream() for _ in range(3))
    torch.cuda.synchronize()
    got = []
    for _ in range(50):
        for stream in eager:
            with torch.cuda.stream(stream):
                got.append(l1_discrepancy(student, teacher))
        with torch.cuda.stream(replaying):
            graph.replay()
            got.append(captured.clone())
    torch.cuda.synchronize()
    assert all(torch.equal(x, want) for x in got)


def test_an_index_out_of_range_gives_nan_and_no_foreign_read():
    x, lam = torch.randn(3, 4, device="cuda"), torch.rand(3, device="cuda")
    wrong = torch.tensor([0, 1 << 40, -1], device="cuda")
    assert mixup(x, lam, wrong).isnan().all(1).tolist() == [False, True, True]
