"""The modules: the ops' results, and nothing lost in a pickle or a copy."""

import copy
import pickle

import pytest
import torch

from dfad_fast.nn import BoundaryHingeLoss, InterpolatedL1, KLDiscrepancy, L1Discrepancy, Mixup
from dfad_fast.ops import boundary_hinge_loss, interpolated_l1, kl_discrepancy, l1_discrepancy, pack_signs

MODULES = [
    (BoundaryHingeLoss(), "BoundaryHingeLoss(margin=1.0, reduction='mean')"),
    (
        BoundaryHingeLoss(0.5, "sum", [1, 2]),
        "BoundaryHingeLoss(margin=0.5, reduction='sum', weights=(1, 2))",
    ),
    (L1Discrepancy("sum"), "L1Discrepancy(reduction='sum')"),
    (KLDiscrepancy(4.0, "sum"), "KLDiscrepancy(temperature=4.0, reduction='sum')"),
    (InterpolatedL1("sum"), "InterpolatedL1(reduction='sum')"),
    (Mixup(0.4, per_sample=True), "Mixup(alpha=0.4, per_sample=True)"),
]


@pytest.mark.parametrize(("module", "text"), MODULES)
def test_pickle_copy_and_repr(module, text):
    assert repr(module) == text
    assert repr(pickle.loads(pickle.dumps(module))) == text
    assert repr(copy.deepcopy(module)) == text


def test_losses_are_the_ops():
    s, t = torch.randn(4, 5), torch.randn(4, 5)
    assert torch.equal(BoundaryHingeLoss(0.5, "sum")(s, t), boundary_hinge_loss(s, t, 0.5, "sum"))
    weighted = BoundaryHingeLoss(weights=[1, 3])([s, s], [t, t])
    assert torch.equal(weighted, boundary_hinge_loss([s, s], [t, t], weights=[1, 3]))
    assert torch.equal(BoundaryHingeLoss()(s, pack_signs(t)), boundary_hinge_loss(s, t))
    assert torch.equal(L1Discrepancy("none")(s, t), l1_discrepancy(s, t, "none"))
    assert torch.equal(KLDiscrepancy(3.0, "sum")(s, t), kl_discrepancy(s, t, 3.0, "sum"))
    lam, perm = torch.rand(4), torch.randperm(4)
    assert torch.equal(InterpolatedL1("sum")(s, t, lam, perm), interpolated_l1(s, t, lam, perm, "sum"))


@pytest.mark.parametrize("per_sample", [False, True])
def test_mixup_is_seeded_and_mixes_both_alike(per_sample):
    module = Mixup(per_sample=per_sample)
    x = torch.randn(16, 3)
    first = module(x, x, generator=torch.Generator().manual_seed(3))
    again = module(x, x.clone(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], x)
    alone = module(x, generator=torch.Generator().manual_seed(3))
    assert torch.equal(alone, first[0])


def test_mixup_passes_through_in_eval_mode():
    module, x = Mixup().eval(), torch.randn(4, 3)
    assert module(x) is x
    assert module(x, x) == (x, x)


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.2, 0.1785714), (5.0, 1 / 44)])
def test_mixup_draws_from_a_beta_distribution(alpha, variance):
    lam = Mixup(alpha, per_sample=True)._draw_lam(200_000, torch.Generator().manual_seed(0))
    assert lam.mean().item() == pytest.approx(0.5, abs=0.005)
    assert lam.var().item() == pytest.approx(variance, rel=0.02)
    assert ((lam >= 0) & (lam <= 1)).all()


def test_mixup_refuses_a_bad_alpha():
    with pytest.raises(ValueError, match="alpha must be finite and positive, got 0"):
        Mixup(0.0)
