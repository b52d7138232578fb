import math

import pytest
import torch

from dfad_fast.inspection import similarity
from dfad_fast.inspection.similarity import MinibatchCKA, unbiased_hsic


def hsic_by_loops(k, l):  # noqa: E741
    """The U-statistic's definition: means over distinct pairs, quadruples and triples of images."""
    n = len(k)
    pairs = quadruples = triples = 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            pairs += k[i][j] * l[i][j]
            for q in range(n):
                if q in (i, j):
                    continue
                triples += k[i][j] * l[i][q]
                for r in range(n):
                    if r not in (i, j, q):
                        quadruples += k[i][j] * l[q][r]
    two, three, four = n * (n - 1), n * (n - 1) * (n - 2), n * (n - 1) * (n - 2) * (n - 3)
    return pairs / two + quadruples / four - 2 * triples / three


def cka(x, y, batch=None):
    measured = MinibatchCKA()
    for a, b in zip(x.split(batch or len(x)), y.split(batch or len(y)), strict=True):
        measured.add(a, b)
    return measured.value()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [4, 7, 10])
def test_hsic_is_the_mean_over_distinct_images(n):
    x, y = random(n, 5).double(), random(n, 3, seed=1).double()
    k, l = x @ x.T, y @ y.T  # noqa: E741
    expected = hsic_by_loops(k.tolist(), l.tolist())
    assert unbiased_hsic(k, l).item() == pytest.approx(expected, rel=1e-10)


def test_cka_of_batches_is_the_ratio_of_summed_hsic():
    x, y = random(16, 3, 2, 2), random(16, 6, seed=1) + random(16, 12)[:, :6]
    sums = [0.0, 0.0, 0.0]
    for rows in (slice(0, 8), slice(8, 16)):
        a, b = x[rows].flatten(1).double(), y[rows].double()
        k, l = (a @ a.T).tolist(), (b @ b.T).tolist()  # noqa: E741
        for i, (p, q) in enumerate([(k, l), (k, k), (l, l)]):
            sums[i] += hsic_by_loops(p, q)
    assert cka(x, y, batch=8) == pytest.approx(sums[0] / math.sqrt(sums[1] * sums[2]), rel=1e-8)


def test_features_too_many_for_one_piece_are_summed_over(monkeypatch):
    x, y = random(16, 10), random(16, 10) + random(16, 10, seed=1)
    whole = cka(x, y)
    monkeypatch.setattr(similarity, "_COLUMNS", 3)
    assert cka(x, y) == pytest.approx(whole, rel=1e-12)


def test_equal_features_give_one_rotated_scaled_and_shifted_ones_too():
    x = random(64, 8)
    rotation = torch.linalg.qr(random(8, 8, seed=1)).Q
    assert cka(x, x, batch=16) == pytest.approx(1, abs=1e-12)
    assert cka(x, 3 * x @ rotation + 100, batch=16) == pytest.approx(1, abs=1e-6)


def test_independent_features_give_about_zero_however_wide():
    x, y = random(512, 2048), random(512, 2048, seed=1)
    assert abs(cka(x, y, batch=64)) < 0.02
    assert abs(cka(x, x[torch.randperm(512, generator=torch.Generator().manual_seed(2))], batch=64)) < 0.15
    k = x - x.mean(0)
    biased = (k.T @ (y - y.mean(0))).square().sum() / ((k.T @ k).norm() * ((y - y.mean(0)).T @ y).norm())
    assert biased > 0.5  # what the correction is for


@pytest.mark.parametrize("bad", [torch.ones(8, 4), torch.full((8, 4), math.nan)])
def test_features_that_do_not_vary_or_are_nan_have_no_cka(bad):
    assert math.isnan(cka(random(8, 4), bad))
    assert math.isnan(cka(bad, random(8, 4)))


@pytest.mark.parametrize("shapes", [((3, 3), (3, 3)), ((5, 5), (4, 4)), ((5, 4), (5, 5))])
def test_gram_matrices_that_are_none_are_refused(shapes):
    with pytest.raises(ValueError, match=r"two Gram matrices \[n, n\] with n >= 4, got"):
        unbiased_hsic(*(torch.zeros(shape) for shape in shapes))
