"""Every kernel once or a few times, on the CPU, compared with the references in float64: ``python -m
tests.cuda.exercise [library]``. A process of its own, as the kernels stay in the place of the C++ ones.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from dfad_fast.ops import batch_norm, boundary_hinge, channels, interpolated, kl, l1, mixing, packed_signs
from tests.cuda.build_shim import load_shim

SHAPE = (3, 5, 4, 6)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def _sliced(x: torch.Tensor) -> torch.Tensor:
    """A view whose gaps are NaN: reading one would show."""
    big = x.new_full([2 * n for n in x.shape], float("nan"))
    return big[tuple(slice(None, None, 2) for _ in x.shape)].copy_(x)


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.to(memory_format=torch.channels_last)


def _expanded(x: torch.Tensor) -> torch.Tensor:
    return x[:, :1].expand(x.shape)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _reversed(x: torch.Tensor) -> torch.Tensor:
    """The first dimension's neighbors lie next to each other, the last one's far apart."""
    order = tuple(reversed(range(x.dim())))
    return x.permute(order).contiguous().permute(order)


LAYOUTS = (_same, _channels_last, _sliced, _expanded)


def _assert_close(
    got: torch.Tensor, want: torch.Tensor, inputs: Sequence[torch.Tensor], ulps: int = 8
) -> None:
    computed = torch.float64 if all(x.dtype == torch.float64 for x in inputs) else torch.float32
    eps = ulps * max(torch.finfo(got.dtype).eps, torch.finfo(computed).eps)
    if got.dtype in (torch.float16, torch.bfloat16):
        eps /= 2
    rounded = want.detach().to(got.dtype).double()
    finite = rounded[rounded.isfinite()].abs()
    # In proportion to what is compared: gradients of a mean are small, and must not pass as anything small. Below the
    # last figure is the rounding of a gradient that is 0, as of equal logits.
    atol = max(eps * min(1.0, finite.max().item() if finite.numel() else 1.0), 1e-15)
    torch.testing.assert_close(got.detach().double(), rounded, rtol=eps, atol=atol, equal_nan=True)


def compare(
    op: Callable[..., torch.Tensor],
    reference: Callable[..., torch.Tensor],
    *tensors: torch.Tensor,
    ulps: int = 8,
) -> None:
    """Values, and gradients of incoming ones in two memory orders."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    wide = [x.detach().double().requires_grad_() for x in tensors]
    got, want = op(*leaves), reference(*wide)
    _assert_close(got, want, tensors, ulps)
    grad = torch.rand(want.shape).to(got.dtype)
    for incoming in (grad, _reversed(grad)) if grad.dim() > 1 else (grad,):
        got.backward(incoming, retain_graph=True)
        want.backward(incoming.double(), retain_graph=True)
        for leaf, other in zip(leaves, wide, strict=True):
            assert (leaf.grad is None) == (other.grad is None)
            if leaf.grad is not None:
                assert leaf.grad.stride() == torch.empty_like(leaf).stride()
                _assert_close(leaf.grad, other.grad, tensors, ulps)
            leaf.grad = other.grad = None


def _pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for s, t in itertools.product(DTYPES, DTYPES):
        yield torch.randn(SHAPE).to(s), torch.randn(SHAPE).to(t)
    for s, t in itertools.product(LAYOUTS, LAYOUTS):
        yield s(torch.randn(SHAPE)), t(torch.randn(SHAPE))
    # Each way across the other: parts of squares, and several of them.
    for dtype in DTYPES:
        yield torch.randn(2, 9, 5, 7).to(dtype), _channels_last(torch.randn(2, 9, 5, 7)).to(dtype)
    yield _channels_last(torch.randn(1, 70, 6, 6)), torch.randn(1, 70, 6, 6).half()
    yield torch.randn(70, 40).t(), torch.randn(40, 70)
    for shape in ((1, 1), (2, 4096), (5, 4097), (2, 3, 2, 3, 2, 3, 2), (0,) * 6, (0, 3), (4, 300)):
        yield torch.randn(shape), torch.randn(shape)
    # Too many dimensions that do not merge: copied first.
    yield _sliced(torch.randn(2, 3, 2, 3, 2, 3, 2)), torch.randn(2, 3, 2, 3, 2, 3, 2).double()
    yield torch.randn(5, 4097)[:, 1:], torch.randn(5, 4096)
    # The teacher lies across, and with a gradient in another order there are too many dimensions, too.
    shape = (2, 8, 2, 2, 2, 2, 2, 2)
    yield torch.randn(shape), torch.randn(shape).movedim(1, -1).contiguous().movedim(-1, 1)


def _losses(s: torch.Tensor, t: torch.Tensor, reduction: str) -> None:
    lam, perm = torch.rand(len(s)), torch.randperm(len(s))
    ops = torch.ops.dfad_fast
    compare(
        lambda s, t: ops.l1_discrepancy(s, t, reduction)[0], lambda s, t: l1.reference(s, t, reduction), s, t
    )
    compare(
        lambda s, t: ops.kl_discrepancy(s, t, 2.0, reduction)[0],
        lambda s, t: kl.reference(s, t, 2.0, reduction),
        *(s, t),
    )
    compare(
        lambda s, t: ops.interpolated_l1(s, t, lam, perm, reduction),
        lambda s, t: interpolated.reference(s, t, lam.double(), perm, reduction),
        *(s, t),
    )
    compare(
        lambda s, t: ops.boundary_hinge_loss([s], [t], [1.0], 1.0, reduction)[0],
        lambda s, t: boundary_hinge.reference([s], [t], [1.0], 1.0, reduction)[0],
        *(s, t),
    )
    loss, share, (bits,) = ops.boundary_hinge_loss([s], [t], [1.0], 1.0, reduction, True, True)
    on = ~(t <= 0)
    assert torch.equal(packed_signs.unpack(bits, s.shape, packed_signs.dense_strides(s)), on)
    assert torch.equal(ops.pack_signs(t), packed_signs.reference(t))
    torch.testing.assert_close(share[0], (~(s <= 0) == on).float().mean(), equal_nan=True)
    packed, share_of_packed, _ = ops.boundary_hinge_loss([s], [bits], [1.0], 1.0, reduction, True)
    torch.testing.assert_close(packed.double(), loss.double(), rtol=1e-2, atol=1e-6, equal_nan=True)
    assert torch.equal(share_of_packed.nan_to_num(), share.nan_to_num())


def _stages() -> None:
    """More stages than one launch takes, of several dtypes, one of them empty and one of several chunks."""
    shapes = [(k + 1, 3) for k in range(25)] + [(0, 2), (30000,)]
    students = [torch.randn(shape).to(DTYPES[k % 4]) for k, shape in enumerate(shapes)]
    teachers = [torch.randn(shape).to(DTYPES[k // 4 % 4]) for k, shape in enumerate(shapes)]
    weights = [0.1 * k - 1 for k in range(len(shapes))]
    for reduction in ("sum", "mean"):
        compare(
            lambda *s, r=reduction: torch.ops.dfad_fast.boundary_hinge_loss(
                s, teachers, weights, 1.0, r, True
            )[0],
            lambda *s, r=reduction: boundary_hinge.reference(s, teachers, weights, 1.0, r)[0],
            *students,
        )
    shares = torch.ops.dfad_fast.boundary_hinge_loss(students, teachers, weights, 1.0, "mean", True)[1]
    _, wanted = boundary_hinge.reference(students, teachers, weights, 1.0)
    torch.testing.assert_close(shares, wanted, equal_nan=True)
    # One teacher, of too many dimensions that do not merge, in the order of each of its students.
    x = torch.randn((2,) * 7)
    teacher = _sliced(torch.randn(x.shape))
    compare(
        lambda *s: torch.ops.dfad_fast.boundary_hinge_loss(s, [teacher] * 2, [1.0, 0.5], 1.0, "sum")[0],
        lambda *s: boundary_hinge.reference(s, [teacher] * 2, [1.0, 0.5], 1.0, "sum")[0],
        *(x, _reversed(x)),
    )


def _statistics() -> None:
    """Rows and planes of channels, of one chunk and of several; and more tensors than one launch takes."""
    shapes = [SHAPE, (5, 1), (3, 40), (2100, 3), (2, 2, 70, 70), (2, 3, 2, 3, 2, 3, 2), (0, 3), (4, 0, 2)]
    tensors = [torch.randn(shape) for shape in shapes]
    tensors += [layout(torch.randn(SHAPE).to(dtype)) for layout in LAYOUTS for dtype in DTYPES]
    tensors.append(_sliced(torch.randn(2, 3, 2, 3, 2, 3, 2)))
    statistics = torch.ops.dfad_fast.channel_statistics
    for x in tensors:
        compare(lambda x: statistics([x]), lambda x: channels.reference([x]), x)
    compare(lambda *x: statistics(x), lambda *x: channels.reference(x), *tensors)
    odd = torch.randn(9, 3), torch.randn(70, 8), torch.randn(70, 2)  # later channels begin off a vector
    compare(lambda *x: statistics(x), lambda *x: channels.reference(x), *odd)


def _mixtures() -> None:
    perm = torch.randperm(14)[:7].argsort()
    tensors = [
        *(torch.randn(7, 3, 8, 8), torch.randn(7, 10).half(), torch.randn(7, 5).double(), torch.randn(7)),
        *(torch.randn(7, 4, 3).bfloat16().mT, torch.randn(4, 7, 6).transpose(0, 1), torch.randn(7, 0)),
    ]
    for lam in (torch.tensor(0.3), torch.rand(7), torch.rand(14)[::2].double(), torch.tensor(0.3).expand(7)):
        for x in tensors:
            compare(
                lambda x, lam=lam: torch.ops.dfad_fast.mixup([x, x.detach()], lam, perm)[0],
                lambda x, lam=lam: mixing.mix(x, lam.double(), 1 - lam.double(), perm),
                x,
            )
    # No permutation: what cannot be read is NaN.
    wrong, x = torch.tensor([0, 5, -1]), torch.randn(3, 4)
    for op in (torch.ops.dfad_fast.mixup, torch.ops.dfad_fast.mixup_backward):
        (mixed,) = op([x], torch.rand(3), wrong)
        assert mixed.isnan().all(1).tolist() == [False, True, True]
    per_element = torch.ops.dfad_fast.interpolated_l1(x, x, torch.rand(3), wrong, "none")
    assert per_element.isnan().all(1).tolist() == [False, True, True]
    # If rows share a partner, the last one counts. A row that is no one's partner has no gradient.
    (mixed,) = torch.ops.dfad_fast.mixup_backward([x], torch.full((3,), 0.25), torch.tensor([2, 2, 0]))
    assert mixed[1].isnan().all()
    torch.testing.assert_close(mixed[[0, 2]], 0.25 * x[[0, 2]] + 0.75 * x[[2, 1]])
    # More rows than blocks find the partners of by themselves.
    perm, lam = torch.randperm(1500), torch.rand(1500)
    compare(
        lambda x: torch.ops.dfad_fast.mixup([x], lam, perm)[0],
        lambda x: mixing.mix(x, lam.double(), 1 - lam.double(), perm),
        torch.randn(1500, 3),
    )
    compare(
        lambda s, t: torch.ops.dfad_fast.interpolated_l1(s, t, lam, perm, "mean"),
        lambda s, t: interpolated.reference(s, t, lam.double(), perm, "mean"),
        *(torch.randn(1500, 3), torch.randn(1500, 3)),
    )


def _norm(
    x: torch.Tensor, residual: bool, dtype: torch.dtype | None, given: torch.Tensor | None, slope: float
) -> None:
    """Values and gradients; weight and bias in this dtype, or none."""
    beside = torch.randn(x.shape).to(x.dtype) if residual else None
    weight, bias = (None if dtype is None else torch.randn(x.shape[1]).to(dtype) for _ in range(2))
    tensors = [x, *(t for t in (beside, weight, bias) if t is not None)]

    def named(given: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        rest = iter(given)
        return [None if t is None else next(rest) for t in (x, beside, weight, bias)]

    statistics = None if given is None else given.to(torch.promote_types(x.dtype, torch.float32))
    wide = None if given is None else given.double()
    options = (given is not None, slope, 1e-5)
    compare(
        lambda *t: torch.ops.dfad_fast.batch_norm_act(*named(t), statistics, *options)[0],
        lambda *t: batch_norm.reference(*named(t), wide, *options)[0],
        *tensors,
        ulps=64,  # sums whose terms cancel
    )


def _norms() -> None:
    for layout, dtype, residual in itertools.product(LAYOUTS, DTYPES, (False, True)):
        channels = torch.rand(2, 5) + 0.1
        _norm(layout(torch.randn(3, 5, 4, 6)).to(dtype), residual, torch.float32, None, 0.0)
        _norm(layout(torch.randn(3, 5, 4, 6)).to(dtype), residual, dtype, channels, 0.2)
    # One chunk and many; lanes with vectors and without; a tile that is not full; chunks of several steps.
    for shape in (
        (16, 1),
        (700, 3),
        (65, 68),
        (40, 130),
        (4, 1, 300),
        (3, 2, 1031),
        (600, 4, 3),
        (300, 1024, 2),
    ):
        _norm(torch.randn(shape), False, None, None, 1.0)
    # A residual and a gradient that lie across.
    compare(
        lambda x, r: torch.ops.dfad_fast.batch_norm_act(x, r, None, None, None, False, 0.0, 1e-5)[0],
        lambda x, r: batch_norm.reference(x, r, None, None, None, False, 0.0, 1e-5)[0],
        *(_channels_last(torch.randn(2, 9, 4, 5)), torch.randn(2, 9, 4, 5)),
        ulps=64,
    )
    _norm(torch.randn(3, 0, 4).transpose(1, 2), False, torch.half, torch.rand(2, 4), 0.0)


def main(library: str | None = None) -> None:
    load_shim(None if library is None else Path(library))
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)  # torch.empty gives NaN: an element that is not written shows
    for s, t in _pairs():
        for reduction in ("mean", "sum", "none"):
            _losses(s, t, reduction)
    _stages()
    _statistics()
    _mixtures()
    _norms()


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("the kernels agree with the references")
