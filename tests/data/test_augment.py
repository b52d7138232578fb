from collections import Counter

import torch

from dfad_fast.data import ShiftFlip


def moved(image: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """The image moved pixel by pixel, black where nothing came from."""
    _, height, width = image.shape
    out = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - across < width:
                out[:, y, x] = image[:, y - down, x - across]
    return out


def how_changed(before: torch.Tensor, after: torch.Tensor, shift: int) -> tuple[int, int, bool]:
    """The one (down, across, mirrored) that makes `after` of `before`."""
    steps = range(-shift, shift + 1)
    ways = []
    for down in steps:
        for across in steps:
            image = moved(before, down, across)
            ways += [
                (down, across, flip)
                for flip in (False, True)
                if torch.equal(image.flip(2) if flip else image, after)
            ]
    assert len(ways) == 1
    return ways[0]


def draw(augment: ShiftFlip, count: int) -> list[tuple[int, int, bool]]:
    """The changes that `augment` makes to a batch of `count` images without symmetries."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (count, 2, 5, 6), dtype=torch.uint8, generator=generator)
    before = images.clone()
    out = augment(images, generator)
    assert torch.equal(images, before)
    assert out.dtype == torch.uint8
    return [how_changed(a, b, augment.shift) for a, b in zip(images, out, strict=True)]


def test_every_shift_occurs_about_equally_often_and_nothing_is_mirrored():
    ways = Counter(draw(ShiftFlip(shift=1), 450))
    assert set(ways) == {(down, across, False) for down in (-1, 0, 1) for across in (-1, 0, 1)}
    assert min(ways.values()) > 25  # 50 expected, standard deviation 6.7


def test_half_of_the_images_are_mirrored_whatever_their_shift():
    ways = draw(ShiftFlip(shift=2, flip=True), 200)
    assert {abs(down) for down, _, _ in ways} == {0, 1, 2}
    assert 70 < sum(flip for _, _, flip in ways) < 130


def test_without_shift_and_flip_images_stay_as_they_are():
    assert set(draw(ShiftFlip(shift=0), 5)) == {(0, 0, False)}
