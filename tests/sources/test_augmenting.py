"""Stored views: what is drawn, and what they show, against a plain loop over images and pixels."""

import numpy as np
import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.sources.augmenting import Views, apply_views, draw_views, parse_augment
from dfad_fast.sources.augmenting.views import CUTMIX, MIXTURE, PLAIN

SHAPE = (3, 11, 14)
EVERYTHING = "flip-shift-crop-cutmix-mix"


def drawn(augment, count=40, shape=SHAPE, partners=40, seed=0):
    return draw_views(np.random.default_rng(seed), count, shape, augment, partners)


def images(count=40, shape=SHAPE, seed=0):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def shown_plainly(images, partners, views):
    """One image after the other, one pixel after the other."""
    shown = np.empty(images.shape, np.float64)
    images, partners = images.double().numpy(), partners.double().numpy()
    _, _, height, width = images.shape
    for n in range(len(views)):
        lam, (y0, y1, x0, x1) = float(views.lam[n]), views.box[n].tolist()
        x = images[n].copy()
        if views.kind[n] == MIXTURE:
            x = lam * x + (1 - lam) * partners[n]
        elif views.kind[n] == CUTMIX:
            x[:, y0:y1, x0:x1] = partners[n][:, y0:y1, x0:x1]
        scale = float(views.scale[n])
        for row in range(height):
            for column in range(width):
                from_left = width - 1 - column if views.flip[n] else column
                y = np.clip((row + 0.5) * scale - 0.5 + float(views.dy[n]), 0, height - 1)
                across = np.clip((from_left + 0.5) * scale - 0.5 + float(views.dx[n]), 0, width - 1)
                i, j = int(y), int(across)
                below, right = min(i + 1, height - 1), min(j + 1, width - 1)
                a, b = y - i, across - j
                top = (1 - b) * x[:, i, j] + b * x[:, i, right]
                bottom = (1 - b) * x[:, below, j] + b * x[:, below, right]
                shown[n, :, row, column] = (1 - a) * top + a * bottom
    return torch.from_numpy(shown)


@pytest.mark.parametrize(
    "augment", ["none", "flip", "shift", "crop", "cutmix", "mix", "flip-shift-cutmix-mix", EVERYTHING]
)
def test_views_show_what_a_plain_loop_shows(augment):
    views, x = drawn(augment), images()
    partners = x[views.partner]
    expected = shown_plainly(x, partners, views)
    torch.testing.assert_close(apply_views(x, partners, views).double(), expected, atol=2e-5, rtol=0)


def test_shifts_flips_and_boxes_keep_pixels_to_the_bit():
    views, x = drawn("flip-shift-cutmix"), images()
    partners = x[views.partner]
    assert torch.equal(apply_views(x, partners, views).double(), shown_plainly(x, partners, views))


def test_what_a_shift_moves_in_continues_the_edge():
    views, x = drawn("shift"), torch.full((40, *SHAPE), -2.0)
    assert torch.equal(apply_views(x, x, views), x)


def test_plain_images_among_mixed_ones_stay_as_they_are():
    views, x = drawn("cutmix-mix"), images()
    shown = apply_views(x, images(seed=1), views)
    plain = views.kind == PLAIN
    assert 0 < int(plain.sum()) < 40
    assert torch.equal(shown[plain], x[plain])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_keep_their_dtype(dtype):
    views, x = drawn(EVERYTHING), images()
    shown = apply_views(x.to(dtype), x.to(dtype)[views.partner], views)
    assert shown.dtype == dtype
    torch.testing.assert_close(shown.float(), apply_views(x, x[views.partner], views), atol=0.06, rtol=0.02)


def test_kinds_are_equally_frequent_and_shares_are_uniform():
    views = drawn("cutmix-mix", 6000)
    for kind in (PLAIN, CUTMIX, MIXTURE):
        assert abs(float((views.kind == kind).float().mean()) - 1 / 3) < 0.03
    lam = views.lam[views.kind == MIXTURE]
    assert abs(float(lam.mean()) - 0.5) < 0.03
    assert abs(float(lam.var()) - 1 / 12) < 0.01
    assert bool((views.lam[views.kind == PLAIN] == 1).all())


def test_boxes_are_as_large_as_their_shares_say_and_inside():
    views = drawn("cutmix", 3000, (1, 32, 32))
    cut = views.select(views.kind == CUTMIX)
    y0, y1, x0, x1 = cut.box.unbind(1)
    area = (y1 - y0) * (x1 - x0) / 1024
    assert torch.equal(cut.lam, 1 - area)
    assert bool(((cut.box >= 0) & (cut.box <= 32)).all())
    assert abs(float(area.mean()) - 0.33) < 0.04  # 1/2, less what is clipped at the border
    assert bool((views.box[views.kind != CUTMIX] == 0).all())


def test_shifts_reach_an_eighth_of_each_side_and_crops_stay_inside():
    shifts = drawn("shift", 2000, (3, 32, 64))
    assert shifts.dy.unique().tolist() == list(range(-4, 5))
    assert shifts.dx.unique().tolist() == list(range(-8, 9))
    assert drawn("shift", 200, (1, 3, 3)).dy.unique().tolist() == [-1, 0, 1]
    crops = drawn("crop", 2000, (3, 32, 64))
    assert 0.4 <= float(crops.scale.square().min()) < 0.42
    assert float(crops.dy.min()) >= 0
    assert float((crops.dx + crops.scale * 64).max()) <= 64.001


def test_views_are_selected_joined_and_stored():
    views = drawn(EVERYTHING, 10)
    again = Views(**{name: value.clone() for name, value in views.state_dict().items()})
    joined = Views.cat([again.select(slice(0, 3)), again.select(torch.arange(3, 10))])
    assert len(joined) == 10
    for name, value in views.state_dict().items():
        assert torch.equal(value, joined.state_dict()[name]), name


def test_a_seed_draws_the_same_views():
    first, same, other = (drawn(EVERYTHING, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not torch.equal(first["lam"], other["lam"])


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ("flip-cutmx", "unknown augmentation 'cutmx': did you mean 'cutmix'"),
        ("", "unknown augmentation ''"),
        ("none-flip", "none cannot be combined"),
    ],
)
def test_unknown_words_are_refused(augment, said):
    with pytest.raises(UsageError, match=said):
        parse_augment(augment)
