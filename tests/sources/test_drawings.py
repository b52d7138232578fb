"""What procedural images look like: their shapes and range, that they differ, that a seed gives the same bits."""

import numpy as np
import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.sources.procedural.canvas import Canvas
from dfad_fast.sources.procedural.figures import Figures, coverage
from dfad_fast.sources.procedural.kinds import KINDS, draw, parse_kinds
from dfad_fast.sources.procedural.leaves import LEAVES, on_top
from dfad_fast.sources.procedural.noise import colored_fields, crops
from dfad_fast.sources.procedural.surround import silhouettes

ALL = dict.fromkeys(KINDS, 1 / len(KINDS))
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 12, 20), (1, 21, 9), (4, 8, 8)]


def drawn(seed, kind, count, shape):
    return KINDS[kind](np.random.default_rng(seed), count, shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_draws_images_of_the_asked_shape_that_differ(kind, shape):
    images = drawn(0, kind, 64, shape)
    assert images.shape == (64, *shape)
    assert images.dtype == np.float32
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    assert len(np.unique(images.reshape(64, -1), axis=0)) == 64
    # Bright and dark ones, and most show something.
    assert images.mean((1, 2, 3)).std() > 0.05
    assert np.median(images.std((2, 3))) > 0.03
    channels = images - images.mean(1, keepdims=True)
    assert (np.abs(channels).max() > 0.1) == (shape[0] > 1)


@pytest.mark.parametrize("surround", [None, 0.0])
def test_a_seed_gives_the_same_bits_whatever_the_number_of_threads(surround):
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(draw(np.random.default_rng(5), 128, (3, 32, 32), ALL, surround))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)
    assert found[0].dtype == torch.float32
    assert not torch.equal(found[0], draw(np.random.default_rng(6), 128, (3, 32, 32), ALL, surround))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_are_images_too(kind, count):
    images = draw(np.random.default_rng(0), count, (1, 5, 7), {kind: 1.0}, None)
    assert images.shape == (count, 1, 5, 7)
    assert images.isfinite().all()


def test_a_mixture_has_its_shares_in_any_order(monkeypatch):
    asked = {}
    for level, kind in enumerate(KINDS):

        def flat(rng, count, shape, level=level, kind=kind):
            asked[kind] = count
            return np.full((count, *shape), level / 4, np.float32)

        monkeypatch.setitem(KINDS, kind, flat)
    shares = {"leaves": 0.5, "noise": 0.3, "gradients": 0.2}
    levels = draw(np.random.default_rng(0), 20, (1, 4, 4), shares, None)[:, 0, 0, 0]
    assert asked == {"leaves": 10, "noise": 6, "gradients": 4}
    assert sorted(levels.tolist()) == [0.0] * 10 + [0.25] * 6 + [0.75] * 4
    assert levels.tolist() != sorted(levels.tolist())
    met = [draw(np.random.default_rng(seed), 1, (1, 1, 1), shares, None).item() for seed in range(200)]
    assert met.count(0.0) == pytest.approx(100, abs=25)
    assert met.count(0.75) == pytest.approx(40, abs=20)


@pytest.mark.parametrize("slope", [0.5, 1.5, 2.5, 4.0])
def test_the_power_of_colored_noise_falls_as_asked(slope):
    fields = colored_fields(np.random.default_rng(0), np.full(16, slope, np.float32), 64, 64)
    power = (np.abs(np.fft.rfft2(fields)) ** 2).mean(0)[1:32, 0]
    found = np.polyfit(np.log(np.arange(1, 32)), np.log(power), 1)[0]
    assert found == pytest.approx(-slope, abs=0.25)
    assert fields.mean((1, 2)) == pytest.approx(np.zeros(16), abs=1e-5)
    assert fields.std((1, 2)) == pytest.approx(np.ones(16), abs=1e-3)


def test_crops_of_noise_come_from_all_over():
    found = crops(np.random.default_rng(0), 256, 16, 16)
    assert len(np.unique(found.reshape(256, -1), axis=0)) > 240
    rough = np.abs(np.diff(found, axis=2)).mean((1, 2))
    assert rough.max() > 4 * rough.min()


def test_leaves_hide_each_other_and_have_many_sizes():
    top = on_top(np.random.default_rng(0), 200, (1, 32, 32))
    area = np.stack([(top == leaf).mean((1, 2)) for leaf in range(LEAVES + 1)])
    assert area.sum(0) == pytest.approx(np.ones(200))
    # The last one hides and is not hidden; the first ones are seen less.
    assert area[-6:].mean() > 1.3 * area[1:7].mean()
    seen = area[1:][area[1:] > 0]
    assert (seen < 0.01).mean() > 0.2
    assert (seen > 0.1).mean() > 0.05


def figure(**given):
    names = ("x", "y", "angle", "a", "b", "radius")
    values = {name: np.array([[given.pop(name, 0.0)]], np.float32) for name in names}
    return Figures(**values, **{name: np.array([[value]], np.float32) for name, value in given.items()})


@pytest.mark.parametrize(
    ("given", "area"),
    [
        ({"radius": 0.3}, np.pi * 0.09),
        ({"a": 0.3, "b": 0.2}, 0.24),
        ({"a": 0.3, "radius": 0.1, "angle": 0.7}, 0.12 + np.pi * 0.01),
        ({"radius": 0.4, "rim": 0.1}, np.pi * (0.16 - 0.09)),
        ({"radius": 0.4, "cut": 0.0, "cut_angle": 1.0}, np.pi * 0.08),
    ],
)
def test_figures_cover_the_area_that_they_should(given, area):
    canvas = Canvas(1, (1, 100, 100))
    (distance,) = figure(**given).distances(canvas)
    covered = coverage(distance, canvas.pixel, np.ones(1, np.float32))
    assert covered.shape == (100, 100, 1)
    assert covered.mean() == pytest.approx(area, rel=0.03)


def test_positions_are_in_units_of_the_shorter_side():
    (distance,) = figure(x=0.5, radius=0.2).distances(Canvas(1, (1, 10, 20)))
    row, column, _ = np.argwhere(distance < 0).mean(0)
    assert (row, column) == pytest.approx((4.5, 14.5))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_surround_is_of_its_level_and_what_is_in_it_is_not(level):
    images = draw(np.random.default_rng(0), 200, (3, 28, 28), ALL, level)
    edge = torch.cat([images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]], -1)
    assert (edge == level).float().mean() > 0.95
    middle = (images[:, :, 10:18, 10:18] - level).abs().amax((1, 2, 3))
    assert (middle > 0.05).float().mean() > 0.8
    plain = draw(np.random.default_rng(0), 200, (3, 28, 28), ALL, None)
    assert (plain == level).float().mean() < 0.2


def test_silhouettes_are_things_of_many_sizes():
    area = silhouettes(np.random.default_rng(0), 500, (1, 28, 28)).mean((1, 2))
    assert area.min() < 0.1
    assert 0.2 < area.mean() < 0.5
    assert area.max() > 0.5


def test_kinds_are_named():
    assert parse_kinds("all") == tuple(KINDS)
    assert parse_kinds("leaves") == ("leaves",)
    assert parse_kinds("shapes_noise") == ("shapes", "noise")
    with pytest.raises(UsageError, match=r"unknown kind of drawing 'leafs': did you mean 'leaves'"):
        parse_kinds("leafs")
    with pytest.raises(UsageError, match=r"repeats a name, got 'noise_noise'"):
        parse_kinds("noise_noise")
    with pytest.raises(UsageError, match=r"unknown kind of drawing ''"):
        parse_kinds("")
