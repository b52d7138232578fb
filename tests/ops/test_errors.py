"""One text per mistake, whether the reference, the C++ kernel or the fake kernel finds it."""

import contextlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dfad_fast import backends
from dfad_fast.ops import (
    batch_norm_act,
    batch_norm_statistics_loss,
    boundary_hinge_loss,
    boundary_hinge_loss_with_agreement,
    channel_statistics,
    interpolated_l1,
    kl_discrepancy,
    l1_discrepancy,
    mixup,
    pack_signs,
    virtual_batch,
)

from .helpers import compiled

F32 = torch.zeros(2, 3)
OTHER_SHAPE = torch.zeros(3, 2)
INTEGER = torch.zeros(2, 3, dtype=torch.int64)
COMPLEX = torch.zeros(2, 3, dtype=torch.complex64)
BOOL = torch.zeros(2, 3, dtype=torch.bool)
META = torch.zeros(2, 3, device="meta")
PERM = torch.arange(2)
LAM = torch.tensor(0.5)
SHAPES = "must have the same shape (nothing is broadcast), got [2, 3] and [3, 2]"

LOSS_CASES = [
    ((F32, OTHER_SHAPE), {}, ValueError, f"student and teacher {SHAPES}"),
    (
        (F32, F32[:1]),
        {},
        ValueError,
        "student and teacher must have the same shape (nothing is broadcast), got [2, 3] and [1, 3]",
    ),
    (
        (F32, F32[0, 0]),
        {},
        ValueError,
        "student and teacher must have the same shape (nothing is broadcast), got [2, 3] and []",
    ),
    ((INTEGER, F32), {}, TypeError, "student must be float64, float32, float16 or bfloat16, got int64"),
    ((F32, BOOL), {}, TypeError, "teacher must be float64, float32, float16 or bfloat16, got bool"),
    ((COMPLEX, F32), {}, TypeError, "student must be float64, float32, float16 or bfloat16, got complex64"),
    ((F32, F32), {"reduction": "avg"}, ValueError, "reduction must be 'none', 'mean' or 'sum', got 'avg'"),
]


def over_pairs():
    """interpolated_l1 as a loss over pairs, under its own name."""

    def call(student, teacher, **keywords):
        return interpolated_l1(student, teacher, 0.5, torch.arange(2), **keywords)

    call.__name__ = "interpolated_l1"
    return call


MIXING_CASES = [
    (
        (torch.zeros(2, dtype=torch.bool), PERM),
        TypeError,
        "lam must be float64, float32, float16 or bfloat16, got bool",
    ),
    ((torch.zeros(3), PERM), ValueError, "lam must be a scalar or have shape [2], got shape [3]"),
    ((torch.zeros(2, 1), PERM), ValueError, "lam must be a scalar or have shape [2], got shape [2, 1]"),
    (
        (torch.zeros(2, requires_grad=True), PERM),
        ValueError,
        "lam gets no gradient and must not require one, pass lam.detach()",
    ),
    ((0.5, PERM.int()), TypeError, "perm must be int64, got int32"),
    ((0.5, torch.arange(3)), ValueError, "perm must have shape [2], got shape [3]"),
    ((0.5, PERM[:, None]), ValueError, "perm must have shape [2], got shape [2, 1]"),
]
RUNNING = torch.zeros(3)
CHANNEL_CASES = [
    (channel_statistics, ([],), {}, ValueError, "expected at least one tensor of features, got none"),
    (channel_statistics, (None,), {}, TypeError, "features must be a tensor or a list of them, got NoneType"),
    (channel_statistics, ([F32, 3],), {}, TypeError, "features[1] must be a tensor, got int"),
    (channel_statistics, (RUNNING,), {}, ValueError, "features must have shape [B, C, ...], got [3]"),
    (
        channel_statistics,
        ([F32, RUNNING],),
        {},
        ValueError,
        "features[1] must have shape [B, C, ...], got [3]",
    ),
    (
        channel_statistics,
        ([F32, INTEGER],),
        {},
        TypeError,
        "features[1] must be float64, float32, float16 or bfloat16, got int64",
    ),
    (
        batch_norm_statistics_loss,
        (F32, RUNNING, [RUNNING]),
        {},
        TypeError,
        "features, running_means and running_variances must all be tensors or all be lists of tensors, got Tensor, "
        "Tensor and list",
    ),
    (
        batch_norm_statistics_loss,
        ([F32], [RUNNING, RUNNING], [RUNNING]),
        {},
        ValueError,
        "features, running_means and running_variances must be equally long lists, got 1, 2 and 1 tensors",
    ),
    (
        batch_norm_statistics_loss,
        ([], [], []),
        {},
        ValueError,
        "expected at least one tensor of features, got none",
    ),
    (
        batch_norm_statistics_loss,
        ([F32], [None], [RUNNING]),
        {},
        TypeError,
        "running_means[0] must be a tensor, got NoneType",
    ),
    (
        batch_norm_statistics_loss,
        ([F32, F32], [RUNNING, RUNNING], [RUNNING, RUNNING[:2]]),
        {},
        ValueError,
        "running_variances[1] must have shape [3], got [2]",
    ),
    (
        batch_norm_statistics_loss,
        (F32, RUNNING.int(), RUNNING),
        {},
        TypeError,
        "running_means must be float64, float32, float16 or bfloat16, got int32",
    ),
    (
        batch_norm_statistics_loss,
        (INTEGER, RUNNING, RUNNING),
        {},
        TypeError,
        "features must be float64, float32, float16 or bfloat16, got int64",
    ),
]
CASES = [
    *CHANNEL_CASES,
    *[
        (function, *case)
        for function in (
            boundary_hinge_loss,
            boundary_hinge_loss_with_agreement,
            l1_discrepancy,
            kl_discrepancy,
            over_pairs(),
        )
        for case in LOSS_CASES
    ],
    *[(mixup, (F32, *arguments), {}, kind, text) for arguments, kind, text in MIXING_CASES],
    *[(interpolated_l1, (F32, F32, *arguments), {}, kind, text) for arguments, kind, text in MIXING_CASES],
    *[
        (
            kl_discrepancy,
            (F32, F32),
            {"temperature": value},
            ValueError,
            f"temperature must be finite and positive, got {value:g}",
        )
        for value in (0.0, -1.0, -0.25, float("nan"), float("inf"))
    ],
    (
        kl_discrepancy,
        (F32[0], F32[0]),
        {},
        ValueError,
        "student and teacher must have shape [B, C, ...], got [3]",
    ),
    (
        kl_discrepancy,
        (F32[0, 0], F32[0, 0]),
        {},
        ValueError,
        "student and teacher must have shape [B, C, ...], got []",
    ),
    (kl_discrepancy, ([F32], F32), {}, TypeError, "student and teacher must be tensors, got list and Tensor"),
    (
        interpolated_l1,
        (F32, F32, 0.5, [0, 1]),
        {},
        TypeError,
        "student, teacher and perm must be tensors, got Tensor, Tensor and list",
    ),
    (
        interpolated_l1,
        (F32[0, 0], F32[0, 0], 0.5, PERM),
        {},
        ValueError,
        "each tensor to mix must have a batch dimension, got a 0-dim tensor",
    ),
    (
        pack_signs,
        (INTEGER,),
        {},
        TypeError,
        "teacher must be float64, float32, float16 or bfloat16, got int64",
    ),
    (pack_signs, ([F32],), {}, TypeError, "teacher must be a tensor, got list"),
    (
        boundary_hinge_loss,
        (F32, F32),
        {"margin": -1.0},
        ValueError,
        "margin must be finite and not negative, got -1",
    ),
    (
        boundary_hinge_loss,
        (F32, F32),
        {"margin": -0.25},
        ValueError,
        "margin must be finite and not negative, got -0.25",
    ),
    (
        boundary_hinge_loss,
        (F32, F32),
        {"margin": float("nan")},
        ValueError,
        "margin must be finite and not negative, got nan",
    ),
    (
        boundary_hinge_loss,
        (F32, F32),
        {"margin": float("inf")},
        ValueError,
        "margin must be finite and not negative, got inf",
    ),
    (
        boundary_hinge_loss,
        ([F32, F32], [F32, OTHER_SHAPE]),
        {},
        ValueError,
        f"student[1] and teacher[1] {SHAPES}",
    ),
    (
        boundary_hinge_loss,
        ([F32, INTEGER], [F32, F32]),
        {},
        TypeError,
        "student[1] must be float64, float32, float16 or bfloat16, got int64",
    ),
    (
        boundary_hinge_loss,
        ([F32], [F32, F32]),
        {},
        ValueError,
        "student and teacher must be equally long lists, got 1 and 2 tensors",
    ),
    (
        boundary_hinge_loss,
        ([F32], [F32]),
        {"weights": [1, 2]},
        ValueError,
        "weights must hold one number per stage, got 2 for 1 stages",
    ),
    (
        boundary_hinge_loss,
        ([], []),
        {},
        ValueError,
        "student and teacher must hold at least one tensor, got empty lists",
    ),
    (
        boundary_hinge_loss,
        ([F32], [F32]),
        {"reduction": "max"},
        ValueError,
        "reduction must be 'none', 'mean' or 'sum', got 'max'",
    ),
    (
        boundary_hinge_loss,
        ([F32], [F32]),
        {"margin": -2.0},
        ValueError,
        "margin must be finite and not negative, got -2",
    ),
    (
        boundary_hinge_loss,
        (F32, F32),
        {"weights": [1.0]},
        ValueError,
        "weights go with lists of stages, got single tensors",
    ),
    (
        boundary_hinge_loss,
        ([F32], [F32]),
        {"weights": [1.0], "reduction": "none"},
        ValueError,
        "weights go with reduction 'mean' or 'sum', got 'none'",
    ),
    (
        boundary_hinge_loss,
        ([F32], F32),
        {},
        TypeError,
        "student and teacher must both be tensors or both be lists of tensors, got list and Tensor",
    ),
    (boundary_hinge_loss, ([F32], [None]), {}, TypeError, "teacher[0] must be a tensor, got NoneType"),
    (l1_discrepancy, (F32, [F32]), {}, TypeError, "student and teacher must be tensors, got Tensor and list"),
    (
        mixup,
        (F32[0, 0], 0.5, PERM),
        {},
        ValueError,
        "each tensor to mix must have a batch dimension, got a 0-dim tensor",
    ),
    (
        mixup,
        (INTEGER, 0.5, PERM),
        {},
        TypeError,
        "each tensor to mix must be float64, float32, float16 or bfloat16, got int64",
    ),
    (mixup, (F32, 0.5, [0, 1]), {}, TypeError, "the batch and perm must be tensors, got list"),
    (
        virtual_batch,
        (F32, torch.zeros(3, 2), 0.5, PERM),
        {},
        ValueError,
        "the tensors to mix must have the same batch size, got 2 and 3",
    ),
]
# Only reachable where values can be read.
PERMUTATION_CASES = [
    ([0, 2], "perm must be a permutation of 0..1, got 2 at position 1"),
    ([-1, 0], "perm must be a permutation of 0..1, got -1 at position 0"),
    ([1, 1], "perm must be a permutation of 0..1, got 1 again at position 1"),
]


# Functions that are forms of another op.
NAMES = {virtual_batch: "mixup", boundary_hinge_loss_with_agreement: "boundary_hinge_loss"}


def error_of(function, arguments, keywords):
    with pytest.raises((ValueError, TypeError)) as caught:
        function(*arguments, **keywords)
    return caught.type, str(caught.value).replace("FakeTensor", "Tensor")


def to_fake(mode, value):
    if isinstance(value, torch.Tensor):
        return mode.from_tensor(value)
    return [to_fake(mode, v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("function", "arguments", "keywords", "kind", "text"), CASES)
def test_texts(function, arguments, keywords, kind, text):
    want = (kind, f"{NAMES.get(function, function.__name__)}: {text}")
    assert error_of(function, arguments, keywords) == want, "the backend under test"
    with backends.use_backend("reference"):
        assert error_of(function, arguments, keywords) == want, "reference"
    with FakeTensorMode() as mode:
        assert error_of(function, [to_fake(mode, a) for a in arguments], keywords) == want, "fake"


@pytest.mark.backends("cpp", "triton", "reference")
@pytest.mark.parametrize("function", [mixup, interpolated_l1])
@pytest.mark.parametrize(("perm", "text"), PERMUTATION_CASES)
def test_permutations(function, perm, text, device):
    if device != "cpu":
        pytest.skip("to look at perm would wait for the GPU")
    want = (ValueError, f"{function.__name__}: {text}")
    arguments = (*[F32] * (1 + (function is interpolated_l1)), 0.5, torch.tensor(perm))
    assert error_of(function, arguments, {}) == want
    with backends.use_backend("reference"):
        assert error_of(function, arguments, {}) == want


@pytest.mark.backends("cuda-shim")
@pytest.mark.parametrize("index", [2, 5, -1, 2**40, -(2**62)])
def test_a_gpu_gives_nan_for_an_index_out_of_range(index):
    """To look at perm would wait for the GPU; nothing outside the batch is read."""
    perm = torch.tensor([1, index])
    x = torch.ones(2, 3)
    for result in (mixup(x, 0.5, perm), interpolated_l1(x, x, 0.5, perm, "none")):
        assert result.isnan().any(1).tolist() == [False, True]
    for function in (lambda x: mixup(x, 0.5, perm), lambda x: interpolated_l1(F32, x, 0.5, perm, "none")):
        (gradient,) = torch.autograd.grad(function(x.requires_grad_()), x, torch.ones(2, 3))
        # No row has row 0 as its partner.
        assert gradient[0].isnan().all()


def packed_cases():
    fitting, other = pack_signs(F32), pack_signs(torch.zeros(2, 4))
    misfit = "packed signs of shape [2, 4] do not fit a student of shape [2, 3]"
    return [
        ((F32, other), ValueError, f"teacher: {misfit}"),
        (([F32, F32], [fitting, other]), ValueError, f"teacher[1]: {misfit}"),
        (
            ([F32], fitting),
            TypeError,
            "student and teacher must both be tensors or both be lists of tensors, got list and PackedSigns",
        ),
        (
            (fitting, F32),
            TypeError,
            "student and teacher must both be tensors or both be lists of tensors, got PackedSigns and Tensor",
        ),
        (
            ([F32, F32], [fitting]),
            ValueError,
            "student and teacher must be equally long lists, got 2 and 1 tensors",
        ),
        ((INTEGER, fitting), TypeError, "student must be float64, float32, float16 or bfloat16, got int64"),
        ((F32, fitting.bits), TypeError, "teacher must be float64, float32, float16 or bfloat16, got uint8"),
    ]


@pytest.mark.parametrize("index", range(7))
def test_packed_signs_that_do_not_fit(index):
    arguments, kind, text = packed_cases()[index]
    want = (kind, f"boundary_hinge_loss: {text}")
    assert error_of(boundary_hinge_loss, arguments, {}) == want
    with backends.use_backend("reference"):
        assert error_of(boundary_hinge_loss, arguments, {}) == want


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        (l1_discrepancy, (F32, META), "student and teacher must be on the same device, got cpu and meta"),
        (
            boundary_hinge_loss,
            (F32, META),
            "student and teacher must be on the same device, got cpu and meta",
        ),
        (
            boundary_hinge_loss,
            ([F32], [META]),
            "student and teacher must be on the same device, got cpu and meta",
        ),
        (
            boundary_hinge_loss,
            ([F32, META], [F32, META]),
            "all stages must be on the same device, got cpu and meta",
        ),
        (
            boundary_hinge_loss,
            ([F32, F32], [F32, META]),
            "student[1] and teacher[1] must be on the same device, got cpu and meta",
        ),
        (kl_discrepancy, (F32, META), "student and teacher must be on the same device, got cpu and meta"),
        (
            interpolated_l1,
            (F32, META, 0.5, PERM),
            "student and teacher must be on the same device, got cpu and meta",
        ),
        (
            channel_statistics,
            ([F32, META],),
            "all features must be on the same device, got cpu and meta",
        ),
        (
            batch_norm_statistics_loss,
            (F32, RUNNING, RUNNING.to("meta")),
            "running_variances must be on cpu, got meta",
        ),
        (interpolated_l1, (F32, F32, 0.5, PERM.to("meta")), "perm must be on cpu, got meta"),
        (
            virtual_batch,
            (F32, META, 0.5, PERM),
            "the tensors to mix must be on the same device, got cpu and meta",
        ),
        (
            mixup,
            (F32, torch.zeros(2, device="meta"), PERM),
            "lam must be on cpu or be a scalar on the CPU, got meta",
        ),
        (mixup, (F32, 0.5, PERM.to("meta")), "perm must be on cpu, got meta"),
    ],
)
def test_devices(function, arguments, text):
    want = (ValueError, f"{NAMES.get(function, function.__name__)}: {text}")
    assert error_of(function, arguments, {}) == want
    with backends.use_backend("reference"):
        assert error_of(function, arguments, {}) == want


BITS = torch.zeros(1, dtype=torch.uint8)
PLANES = torch.zeros(2, 1, dtype=torch.uint8)
L1_SAVED = (PLANES, F32.shape, F32.stride(), F32.dtype, F32.dtype)
STATISTICS = torch.zeros(5, 2)
MOMENTS = torch.zeros(2, 3)
BY_HAND = [
    ("l1_discrepancy_backward", (F32, *L1_SAVED, "mean"), "grad must have the loss's shape"),
    ("l1_discrepancy_backward", (F32[0], *L1_SAVED, "none"), "grad must have the loss's shape"),
    ("l1_discrepancy_backward", (F32.int(), *L1_SAVED, "none"), "grad must be float64"),
    (
        "l1_discrepancy_backward",
        (F32, PLANES[:, :0], *L1_SAVED[1:], "none"),
        r"two planes of 1 bytes.*of shape \[2, 0\]",
    ),
    ("l1_discrepancy_backward", (F32, PLANES[:1], *L1_SAVED[1:], "none"), r"got uint8 of shape \[1, 1\]"),
    ("l1_discrepancy_backward", (F32, PLANES.float(), *L1_SAVED[1:], "none"), "got float32 of shape"),
    (
        "l1_discrepancy_backward",
        (F32, PLANES[0].expand(2, 1), *L1_SAVED[1:], "none"),
        r"each in one piece.*of shape \[2, 1\] with strides \[0, 1\]",
    ),
    ("boundary_hinge_loss_backward", (F32, [F32], [BITS], [1.0], 1.0, "sum"), "grad must have"),
    ("boundary_hinge_loss_backward", (F32, [F32], [F32], [1.0], 1.0, "none"), "packed signs|uint8"),
    ("boundary_hinge_loss_backward", (F32, [F32], [BITS[:0]], [1.0], 1.0, "none"), "1 byte"),
    ("boundary_hinge_loss_backward", (F32, [F32], [BITS.expand(2)], [1.0], 1.0, "none"), "1 byte"),
    ("boundary_hinge_loss_backward", (F32, [F32, F32], [BITS, BITS], [1.0, 1.0], 1.0, "none"), "'none'"),
    ("boundary_hinge_loss_backward", (F32[0, 0], [F32], [BITS], [], 1.0, "sum"), "one number per stage"),
    ("channel_statistics_backward", (MOMENTS[:, :2], [F32], MOMENTS), r"shape \[2, 3\], got \[2, 2\]"),
    ("channel_statistics_backward", (MOMENTS, [F32, F32], MOMENTS), r"shape \[2, 6\], got \[2, 3\]"),
    ("channel_statistics_backward", (MOMENTS, [F32], MOMENTS[:1]), "statistics must be"),
    ("channel_statistics_backward", (MOMENTS, [F32], MOMENTS.half()), "got float16 of shape"),
    ("channel_statistics_backward", (MOMENTS, [F32], torch.zeros(3, 2).T), "contiguous tensor"),
    ("channel_statistics_backward", (MOMENTS.int(), [F32], MOMENTS), "grad must be float64"),
    ("channel_statistics_backward", (MOMENTS, [], MOMENTS), "at least one tensor"),
    ("mixup_backward", ([F32], torch.zeros(3), PERM), "lam must be a scalar or have shape"),
    ("interpolated_l1_backward", (F32, F32, F32, torch.zeros(3), PERM, "none", True, True), "lam must be"),
    ("interpolated_l1_backward", (F32[0], F32, F32, LAM, PERM, "none", True, True), "grad must have"),
    ("kl_discrepancy_backward", (F32, F32, F32, STATISTICS, 1.0, "none", True, True), "grad must have"),
    (
        "kl_discrepancy_backward",
        (F32[:, 0], F32, F32, STATISTICS[:, :1], 1.0, "none", True, True),
        "statistics",
    ),
    (
        "kl_discrepancy_backward",
        (F32[:, 0], F32, F32, STATISTICS.half(), 1.0, "none", True, True),
        "statistics",
    ),
]


@compiled
@pytest.mark.parametrize(("name", "arguments", "text"), BY_HAND)
def test_backward_ops_called_by_hand_check_too(name, arguments, text):
    """A wrong size must not become a read out of bounds."""
    with pytest.raises((ValueError, TypeError), match=text):
        getattr(torch.ops.dfad_fast, name)(*arguments)


@compiled
@pytest.mark.parametrize("fake", [False, True])
def test_a_result_dtype_must_be_wide(fake):
    with (
        FakeTensorMode() if fake else contextlib.nullcontext(),
        pytest.raises(TypeError, match="float32 or float64"),
    ):
        torch.ops.dfad_fast.l1_discrepancy(torch.zeros(3), torch.zeros(3), "none", False, torch.int8)


STORED_OTHERWISE = {
    "sparse_coo": (lambda x: x.to_sparse(), "must be dense, got layout sparse_coo: convert it with to_dense"),
    "sparse_csr": (
        lambda x: x.to_sparse_csr(),
        "must be dense, got layout sparse_csr: convert it with to_dense",
    ),
    "mkldnn": (lambda x: x.to_mkldnn(), "must be dense, got layout _mkldnn: convert it with to_dense"),
    "quantized": (
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
        "must be dense, got qint8: convert it with dequantize",
    ),
    "nested": (lambda x: torch.nested.nested_tensor(list(x)), "must be dense, got a nested tensor: pass the"),
    "jagged": (
        lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
        "must be dense, got a nested tensor: pass the|must be of one class, got (Tensor and )?NestedTensor",
    ),
}
TAKING_ONE = {
    "l1_discrepancy": lambda x: l1_discrepancy(F32, x),
    "kl_discrepancy": lambda x: kl_discrepancy(x, F32),
    "boundary_hinge_loss": lambda x: boundary_hinge_loss([F32], [x]),
    "interpolated_l1": lambda x: interpolated_l1(x, x, 0.5, PERM),
    "mixup": lambda x: mixup(x, 0.5, PERM),
    "pack_signs": pack_signs,
    "channel_statistics": lambda x: channel_statistics([x]),
    "batch_norm_act": batch_norm_act,
}


@pytest.mark.parametrize("kind", STORED_OTHERWISE)
@pytest.mark.parametrize("op", TAKING_ONE)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_tensors_that_are_stored_otherwise_are_refused(op, kind):
    make, message = STORED_OTHERWISE[kind]
    with pytest.raises(TypeError, match=f"^{op}: .*{message}"):
        TAKING_ONE[op](make(F32.clone()))


def test_a_sparse_lam_is_refused():
    with pytest.raises(TypeError, match="mixup: lam must be dense, got layout sparse_coo"):
        mixup(F32.clone(), torch.rand(2).to_sparse(), PERM)
