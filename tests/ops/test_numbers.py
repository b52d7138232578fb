"""Margins, temperatures, weights and lam, as people have them; what learns gets its gradient or is refused."""

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, vmap

from dfad_fast.nn import BoundaryHingeLoss, KLDiscrepancy
from dfad_fast.ops import (
    boundary_hinge_loss,
    generator_block,
    interpolated_l1,
    kl_discrepancy,
    mixup,
    virtual_batch,
)

from .helpers import memory_of_others

S, T = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
PERM = torch.tensor([3, 2, 0, 1, 5, 4])
WITH_A_NUMBER = {
    "temperature": lambda number, s=S: kl_discrepancy(s, T, number),
    "margin": lambda number, s=S: boundary_hinge_loss(s, T, number),
    "each weight": lambda number, s=S: boundary_hinge_loss([s, s[:2]], [T, T[:2]], weights=[1.0, number]),
}
SCALARS = {
    "int": 2,
    "numpy float32": np.float32(2),
    "numpy int": np.int64(2),
    "numpy [1]": np.array([2.0]),
    "0-dim": torch.tensor(2.0),
    "[1]": torch.tensor([2.0]),
    "int64": torch.tensor(2),
    "frozen": torch.nn.Parameter(torch.tensor(2.0), requires_grad=False),
}


@pytest.mark.parametrize("name", WITH_A_NUMBER)
@pytest.mark.parametrize("kind", SCALARS)
def test_all_kinds_of_numbers_are_taken_alike(name, kind):
    assert torch.equal(WITH_A_NUMBER[name](SCALARS[kind]), WITH_A_NUMBER[name](2.0))


@pytest.mark.parametrize("name", WITH_A_NUMBER)
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("2", TypeError, "must be a number, got str"),
        (None, TypeError, "must be a number, got NoneType"),
        ([2.0], TypeError, "must be a number, got list"),
        (2j, TypeError, "must be a number, got complex"),
        (np.complex64(2), TypeError, "must be a real number, got complex64"),
        (torch.tensor(2j), TypeError, "must be a real number, got complex64"),
        (torch.ones(2), ValueError, "must be one number, got shape [2]"),
        (np.ones((1, 3)), ValueError, "must be one number, got shape [1, 3]"),
    ],
)
def test_what_is_no_number_is_refused_by_name(name, value, error, message):
    with pytest.raises(error) as caught:
        WITH_A_NUMBER[name](value)
    assert name in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", WITH_A_NUMBER)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_number_that_learns_gets_its_gradient(name, shape):
    learned = torch.full(shape, 1.5, dtype=torch.float64, requires_grad=True)
    s = S.double().requires_grad_()
    loss = WITH_A_NUMBER[name](learned, s)
    loss.backward()
    frozen = S.double().requires_grad_()
    plain = WITH_A_NUMBER[name](1.5, frozen)
    plain.backward()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(s.grad, frozen.grad)
    assert torch.autograd.gradcheck(lambda x: WITH_A_NUMBER[name](x, S.double()), (learned,))
    assert learned.grad.shape == shape


@pytest.mark.parametrize("name", ["temperature", "margin"])
def test_a_number_that_learns_is_differentiated_by_transforms_and_when_compiled(name):
    learned = torch.tensor(1.5, requires_grad=True)
    (want,) = torch.autograd.grad(WITH_A_NUMBER[name](learned), learned)
    torch.testing.assert_close(grad(WITH_A_NUMBER[name])(learned.detach()), want)
    several = torch.tensor([1.5, 2.0])
    torch.testing.assert_close(
        vmap(WITH_A_NUMBER[name])(several), torch.stack([WITH_A_NUMBER[name](x.item()) for x in several])
    )
    compiled = torch.compile(WITH_A_NUMBER[name], backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(learned), learned)[0], want)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(learned.detach(), torch.tensor(1.0))
        torch.testing.assert_close(forward_ad.unpack_dual(WITH_A_NUMBER[name](dual)).tangent, want)


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("temperature", -1.0), ("margin", -1.0)])
def test_the_range_of_a_number_that_learns_is_checked(name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite and .*, got {value:g}"):
        WITH_A_NUMBER[name](torch.tensor(value, requires_grad=True))


def test_a_module_may_learn_its_number():
    for module, name in ((KLDiscrepancy(2.0), "temperature"), (BoundaryHingeLoss(2.0), "margin")):
        setattr(module, name, torch.nn.Parameter(torch.tensor(2.0)))
        module(S, T).backward()
        assert getattr(module, name).grad.abs() > 0


@pytest.mark.parametrize("name", ["slope", "eps"])
def test_numbers_of_a_generator_block_do_not_learn(name):
    def block(number):
        weight = torch.ones(2, 2, 3, 3)
        return generator_block(torch.arange(16.0).reshape(1, 2, 2, 4), weight, **{name: number})[0]

    with pytest.raises(
        ValueError, match=rf"{name} gets no gradient and must not require one, pass float\({name}\)"
    ):
        block(torch.tensor(0.5, requires_grad=True))
    assert torch.equal(block(np.float32(0.5)), block(0.5))
    with pytest.raises(TypeError, match=f"{name} must be a number, got str"):
        block("0.5")


MIXTURES = {
    "mixup": lambda lam: mixup(S, lam, PERM),
    "virtual_batch": lambda lam: virtual_batch(S, T, lam, PERM)[1],
    "interpolated_l1": lambda lam: interpolated_l1(S, T, lam, PERM),
}
EACH = [0.1, 0.25, 0.5, 0.7, 0.9, 1.0]
LAMS = {
    "int": (1, 1.0),
    "numpy float32": (np.float32(0.25), 0.25),
    "numpy float64": (np.float64(0.25), 0.25),
    "numpy 0-dim": (np.array(0.25), 0.25),
    "numpy [1]": (np.array([0.25]), 0.25),
    "[1]": (torch.tensor([0.25]), 0.25),
    "list of one": ([0.25], 0.25),
    "list": (EACH, torch.tensor(EACH, dtype=torch.float64)),
    "tuple": (tuple(EACH), torch.tensor(EACH, dtype=torch.float64)),
    "list of tensors": ([torch.tensor(x) for x in EACH], torch.tensor(EACH)),
    "numpy [B]": (np.array(EACH), torch.tensor(EACH, dtype=torch.float64)),
    "numpy float32 [B]": (np.array(EACH, dtype=np.float32), torch.tensor(EACH)),
    "int tensor": (torch.tensor(2), 2.0),
    "int tensor [B]": (torch.tensor([0, 1, 1, 0, 0, 2]), torch.tensor([0.0, 1, 1, 0, 0, 2])),
    "numpy int [B]": (np.array([0, 1, 1, 0, 0, 1]), torch.tensor([0.0, 1, 1, 0, 0, 1])),
}


@memory_of_others
@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("kind", LAMS)
def test_all_kinds_of_lam_are_taken_alike(name, kind):
    given, same = LAMS[kind]
    assert torch.equal(MIXTURES[name](given), MIXTURES[name](same))


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize(
    ("lam", "message"),
    [
        ("0.5", "lam must be a number or a tensor, got str"),
        (None, "lam must be a number or a tensor, got NoneType"),
        ([0.5, [0.5]], "lam must be a number or one per sample, got list"),
        ([0.5, torch.tensor(0.5)], "lam must be numbers or tensors of one element each"),
        ([torch.ones(2)], "lam must be numbers or tensors of one element each"),
        (np.array(["a"] * 6), "lam must be real numbers, got ndarray of <U1"),
        (np.ones(6) * 1j, "lam must be real numbers, got ndarray of complex128"),
        ([0.5, 0.5], r"lam must be a scalar or have shape \[6\], got shape \[2\]"),
        (np.ones((6, 1)), r"lam must be a scalar or have shape \[6\], got shape \[6, 1\]"),
        ([torch.tensor(0.5, requires_grad=True)] * 6, "lam gets no gradient and must not require one"),
        (torch.tensor([0.5], requires_grad=True), "lam gets no gradient and must not require one"),
        (float("nan"), "lam must be finite, got nan"),
        (np.float32("inf"), "lam must be finite, got inf"),
        (torch.tensor(float("nan")), "lam must be finite, got nan"),
        (torch.tensor([0.5, 0.5, -float("inf"), 0.5, 0.5, 0.5]), "lam must be finite, got -inf"),
        ([0.5, float("nan"), 0.5, 0.5, 0.5, 0.5], "lam must be finite, got nan"),
    ],
)
def test_what_is_no_lam_is_refused_by_name(name, lam, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MIXTURES[name](lam)
