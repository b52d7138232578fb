"""What the tests of ops share: dtypes, layouts, and a comparison with the float64 reference."""

import itertools

import torch

from dfad_fast.ops import boundary_hinge, boundary_hinge_loss, l1, l1_discrepancy

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
DTYPE_PAIRS = tuple(itertools.product(DTYPES, DTYPES))
REDUCTIONS = ("mean", "sum", "none")
SHAPE = (3, 5, 4, 6)

# Public function and reference of each loss over pairs.
LOSSES = {
    "boundary_hinge_loss": (boundary_hinge_loss, boundary_hinge.reference),
    "l1_discrepancy": (l1_discrepancy, l1.reference),
}


def contiguous(x):
    return x.contiguous()


def channels_last(x):
    return x.to(memory_format=torch.channels_last)


def transposed(x):
    return x.transpose(1, 3).contiguous().transpose(1, 3)


def sliced(x):
    """A view with a storage offset and gaps, whose gaps are NaN: reading one would show."""
    big = x.new_full([n + 2 for n in x.shape], float("nan"))
    view = big[tuple(slice(1, n + 1) for n in x.shape)]
    return view.copy_(x)


def stepped(x):
    big = x.new_full([*x.shape[:-1], 2 * x.shape[-1]], float("nan"))
    return big[..., ::2].copy_(x)


def expanded(x):
    return x[:, :1].expand(x.shape)


LAYOUTS = (contiguous, channels_last, transposed, sliced, stepped, expanded)


def leaf(x):
    """The same tensor, strides and all, as a leaf that requires a gradient."""
    return x.detach().requires_grad_()


def tolerance(*dtypes):
    """Rounding of the widest result: the computation's own float32 and the rounding into each dtype."""
    return max(torch.finfo(dtype).eps for dtype in dtypes) * 2 if dtypes else 0.0


def assert_close(got, want, *dtypes):
    # A long float64 sum differs from the reference only by the order of its terms.
    eps = max(tolerance(*dtypes, got.dtype), 1e-13)
    rounded = want.to(got.dtype).double()  # a sum beyond float16's range is infinite in both
    finite = rounded[rounded.isfinite()].abs()
    # In proportion to what is compared: mean gradients are small, and must not pass as anything small.
    atol = eps * min(1.0, finite.max().item() if finite.numel() else 1.0)
    torch.testing.assert_close(got.double(), rounded, rtol=eps, atol=atol, equal_nan=True)


def run(function, student, teacher, reduction, grad=None, **keywords):
    """Loss and both gradients (None where there is none)."""
    student, teacher = leaf(student), leaf(teacher)
    loss = function(student, teacher, reduction=reduction, **keywords)
    loss.backward(torch.ones_like(loss) if grad is None else grad)
    return loss.detach(), student.grad, teacher.grad


def check_against_reference(name, student, teacher, reduction, grad=None):
    """The op on these inputs against the reference on the same numbers in float64."""
    function, reference = LOSSES[name]
    loss, student_grad, teacher_grad = run(function, student, teacher, reduction, grad)
    wide_grad = None if grad is None else grad.double()
    want = run(reference, student.double(), teacher.double(), reduction, wide_grad)

    computed = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    assert loss.dtype == torch.promote_types(student.dtype, teacher.dtype)
    assert_close(loss, want[0], computed)
    assert student_grad.dtype == student.dtype
    assert_close(student_grad, want[1], computed)
    if want[2] is None:
        assert teacher_grad is None
    else:
        assert teacher_grad.dtype == teacher.dtype
        assert_close(teacher_grad, want[2], computed)
