"""Images as the teacher sees them: moved, mirrored, cropped."""

import numpy as np
import pytest
import torch
from torch import nn

from dfad_fast.sources.restarted.views import draw_crops, draw_moves, seen_through

BLACK = torch.full((1, 1, 1), -2.0)


def rng():
    return np.random.default_rng(0)


def test_moved_images_are_shifted_by_whole_pixels_and_mirrored():
    images = torch.randn(40, 2, 8, 12)
    maps = torch.from_numpy(draw_moves(rng(), 40, (8, 12), 0.25, flip=True))
    moved = seen_through(maps, images, BLACK)
    border = nn.functional.pad(images - BLACK, (3, 3, 2, 2)) + BLACK
    seen = set()
    for image, whole in zip(moved, border, strict=True):
        parts = {
            (dy, dx, mirror): part.flip(2) if mirror else part
            for dy in range(5)
            for dx in range(7)
            for mirror in (False, True)
            for part in [whole[:, dy : dy + 8, dx : dx + 12]]
        }
        found = [where for where, part in parts.items() if torch.allclose(image, part, atol=1e-5)]
        assert len(found) == 1
        seen.update(found)
    assert {dy for dy, _, _ in seen} == set(range(5))
    assert {dx for _, dx, _ in seen} == set(range(7))
    assert {mirror for *_, mirror in seen} == {False, True}


def test_images_that_may_not_move_stay():
    images = torch.randn(5, 1, 8, 8)
    maps = torch.from_numpy(draw_moves(rng(), 5, (8, 8), 0.1, flip=False))
    torch.testing.assert_close(seen_through(maps, images, BLACK), images, rtol=0, atol=1e-5)


def test_crops_are_within_the_image_and_of_a_quarter_of_it_at_least():
    maps = draw_crops(rng(), 500, flip=True)
    lengths = np.abs(maps[:, [0, 1], [0, 1]])
    assert (np.abs(maps[:, :, 2]) + lengths <= 1.0 + 1e-6).all()
    area = lengths.prod(1)
    assert 0.2 < area.min() < 0.35
    assert area.max() > 0.9
    form = lengths[:, 0] / lengths[:, 1]
    assert 0.7 < form.min() < 0.85
    assert 1.2 < form.max() < 1.4
    assert 0.3 < (maps[:, 0, 0] < 0).mean() < 0.7


def test_a_crop_is_enlarged_to_the_whole_image():
    images = torch.arange(8.0).expand(1, 1, 8, 8)
    quarter = torch.tensor([[[0.5, 0.0, -0.25], [0.0, 0.5, 0.0]]])  # columns 1 to 5
    shown = seen_through(quarter, images, torch.zeros(1, 1, 1))
    torch.testing.assert_close(shown[0, 0, 4], torch.linspace(0.75, 4.25, 8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_images_are_shown_in_single_precision_at_least(dtype):
    maps = torch.from_numpy(draw_moves(rng(), 2, (8, 8), 0.2, flip=True))
    with torch.autocast("cpu", torch.bfloat16):
        shown = seen_through(maps, torch.randn(2, 1, 8, 8, dtype=dtype), BLACK)
    assert shown.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
