import numpy as np
import pytest
import torch

from dfad_fast import ops
from dfad_fast.terms.mixing import interpolated_l1, mix
from dfad_fast.terms.mixing_policy import MixingPolicy

PERM = torch.tensor([2, 0, 3, 1])


@pytest.mark.parametrize("side", [(1, 1), (5, 7), (32, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_policy_mixes_by_about_a_third_to_two_thirds(side, dtype):
    torch.manual_seed(0)
    policy = MixingPolicy(3).to(dtype)
    images = torch.randn(4, 3, *side, dtype=dtype)
    lam = policy.coefficients(images, torch.tensor([0.0, 0.25, 0.5, 1.0]), PERM)
    assert lam.dtype == torch.float32
    torch.testing.assert_close(lam, torch.tensor([4, 5, 6, 8]) / 12, rtol=0, atol=0.02)


def test_coefficients_depend_on_the_pair_and_stay_between_0_and_1():
    torch.manual_seed(0)
    policy = MixingPolicy(1)
    torch.nn.init.normal_(policy.region[-1].weight, std=20.0)
    images = torch.randn(64, 1, 8, 8)
    perm = torch.from_numpy(np.random.default_rng(0).permutation(64))
    lower, upper = (policy.coefficients(images, torch.full((64,), end), perm) for end in (0.0, 1.0))
    assert ((lower >= 0) & (lower <= upper) & (upper <= 1)).all()
    assert lower.std() > 0.05
    others = policy.coefficients(images, torch.zeros(64), torch.arange(64))
    assert not torch.allclose(lower, others, atol=0.01)


def test_the_intrusion_is_log_2_for_a_discriminator_that_knows_nothing_and_falls():
    torch.manual_seed(0)
    policy = MixingPolicy(1)
    images = torch.randn(64, 1, 8, 8)
    mixtures = 0.5 * images + 0.5 * images.roll(1, 0)
    assert policy.intrusion(images, mixtures).item() == pytest.approx(np.log(2), abs=0.01)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss = policy.intrusion(images, mixtures)
        loss.backward()
        optimizer.step()
    assert loss < 0.5


def test_mixtures_with_a_gradient_for_lam_are_those_of_the_ops():
    x, teacher, student = (torch.randn(4, *shape, dtype=torch.float64) for shape in ((2, 3, 3), (5,), (5,)))
    lam = torch.rand(4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(mix(x, lam, PERM), ops.mixup(x, lam.detach(), PERM))
    expected = ops.interpolated_l1(student, teacher, lam.detach(), PERM)
    torch.testing.assert_close(interpolated_l1(student, teacher, lam, PERM), expected)
    assert torch.autograd.gradcheck(lambda lam: mix(x, lam, PERM), lam)
    assert torch.autograd.gradcheck(lambda lam: interpolated_l1(student, teacher, lam, PERM), lam)
