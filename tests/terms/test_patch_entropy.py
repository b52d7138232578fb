import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from dfad_fast.distributed import differentiable
from dfad_fast.errors import UsageError
from dfad_fast.terms import PatchEntropy, Probe


def probe_of(*tokens):
    images = torch.zeros(len(tokens[0]), 1, 8, 8)
    none = torch.zeros(len(images), 0)
    return Probe(images, none, none, lambda x: none, attention=list(tokens))


def similarities(tokens):
    """[B, N N] of tokens [B, C, H, W], by a loop."""
    found = []
    for image in tokens.flatten(2).transpose(1, 2).tolist():
        norms = [math.sqrt(sum(x * x for x in patch)) for patch in image]
        found.append(
            [
                sum(a * b for a, b in zip(image[i], image[j], strict=True)) / (norms[i] * norms[j])
                for i in range(len(image))
                for j in range(len(image))
            ]
        )
    return np.array(found)


def entropy(found, bandwidth, places):
    """The mean over images of the entropy of the density that SciPy estimates."""
    total = 0.0
    for row in found:
        density = gaussian_kde(row, bandwidth / row.std(ddof=1))(places) + 1e-4
        values = -density * np.log(density)
        total += sum((places[1:] - places[:-1]) * (values[1:] + values[:-1]) / 2)
    return total / len(found)


@pytest.mark.parametrize("settings", [{}, {"bandwidth": 0.2, "points": 25}])
def test_it_is_the_mean_entropy_of_the_similarities_density(settings):
    torch.manual_seed(0)
    layers = [torch.randn(3, 6, 2, 4, dtype=torch.float64), torch.randn(3, 4, 3, 3, dtype=torch.float64)]
    expected = []
    for tokens in layers:
        found = similarities(tokens)
        places = np.linspace(found.min(), found.max(), settings.get("points", 10))
        expected.append(entropy(found, settings.get("bandwidth", 0.01), places))
    value = PatchEntropy(**settings)(probe_of(*layers))
    assert value.item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_its_gradient_is_that_of_the_density_at_fixed_places():
    torch.manual_seed(0)
    tokens = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    term, step = PatchEntropy(bandwidth=0.3), 1e-6
    (gradient,) = torch.autograd.grad(term(probe_of(tokens)), tokens)
    found = similarities(tokens.detach())
    places = np.linspace(found.min(), found.max(), 10)
    for place in np.ndindex(*tokens.shape):
        ends = []
        for sign in (1, -1):
            moved = tokens.detach().clone()
            moved[place] += sign * step
            ends.append(entropy(similarities(moved), 0.3, places))
        assert gradient[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)


def test_patches_that_are_all_alike_have_no_entropy_and_a_finite_gradient():
    tokens = torch.ones(2, 3, 2, 2, requires_grad=True)
    value = PatchEntropy()(probe_of(tokens))
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-3)
    assert tokens.grad.isfinite().all()


def test_tokens_that_are_zero_have_a_finite_gradient():
    tokens = torch.zeros(2, 3, 2, 2, requires_grad=True)
    value = PatchEntropy()(probe_of(tokens))
    value.backward()
    assert value.isfinite()
    assert tokens.grad.isfinite().all()


def test_half_precision_rounds_no_similarity():
    torch.manual_seed(0)
    tokens = torch.randn(4, 8, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = PatchEntropy()(probe_of(tokens))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, PatchEntropy()(probe_of(tokens.float())))


def test_all_processes_have_the_places_of_the_whole_batch(monkeypatch):
    torch.manual_seed(0)
    tokens = torch.randn(6, 8, 4, 4)
    whole = PatchEntropy()(probe_of(tokens))
    parts = tokens.split(3)
    found = [torch.as_tensor(similarities(part), dtype=torch.float32) for part in parts]
    ends = torch.stack([torch.stack([part.min(), part.max()]) for part in found])
    monkeypatch.setattr(differentiable, "gather", lambda own: ends)
    values = torch.stack([PatchEntropy()(probe_of(part)) for part in parts])
    torch.testing.assert_close(values.mean(), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bandwidth": 0.0}, "patch_entropy: bandwidth must be > 0, got 0.0"),
        ({"bandwidth": float("nan")}, "bandwidth must be > 0, got nan"),
        ({"points": 1}, "patch_entropy: points must be at least 2, got 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        PatchEntropy(**settings)
