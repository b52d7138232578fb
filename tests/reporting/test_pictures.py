import pytest
import torch
from PIL import Image

from dfad_fast.reporting import pictures, sheets


@pytest.mark.parametrize("shape", [(3, 513, 2), (1, 4000, 1), (1, 1, 4000), (3, 300, 300), (2, 8, 8)])
@pytest.mark.pictures
def test_a_picture_of_samples_is_bounded_whatever_the_images(tmp_path, shape):
    images, labels = torch.rand(64, *shape), torch.arange(64) % 10
    small = pictures.shrink(images)
    pictures.draw_samples(tmp_path / "samples.png", small, labels, labels, shape[1:])
    with Image.open(tmp_path / "samples.png") as picture:
        width, height = picture.size
    assert width == 880
    assert 100 < height <= 1760
    sheet = sheets.lay_out(small, labels, labels, 1, 64)
    assert max(sheet.images.shape[1:3]) == min(48, max(shape[1:]))
    assert max(sheet.grid().shape) < 400


def test_shrinking_takes_means_and_leaves_small_images_alone():
    images = torch.rand(2, 1, 256, 2)
    assert pictures.shrink(images).shape == (2, 1, 128, 1)
    assert pictures.shrink(images)[0, 0, 0, 0] == pytest.approx(images[0, 0, :2].mean().item())
    assert torch.equal(pictures.shrink(images[..., :8, :]), images[..., :8, :])
