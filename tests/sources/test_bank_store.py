"""The store under a bank: what stays in it, in which form, and whether the stored answers are the teacher's."""

import copy
import io

import numpy as np
import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.sources.banking import Answering, Limits, Packed, Store
from dfad_fast.sources.banking.epochs import Epochs
from dfad_fast.sources.banking.keeping import Roll, ranks
from dfad_fast.sources.banking.segments import show
from dfad_fast.sources.storage import NoStorage

CPU = torch.device("cpu")
EVERYTHING = "flip-shift-crop-cutmix-mix"


def teacher(images):
    """Four logits, of which the largest is by the first pixel."""
    weights = torch.linspace(-1, 1, images[0].numel()).view(-1, 1) * torch.arange(1.0, 5)
    logits = images.reshape(len(images), -1).float() @ weights
    of = images[:, 0, 0, 0].round().long() % 4
    return logits + 1000 * torch.nn.functional.one_hot(of, 4)


class Counting:
    """The teacher, and how many images it was asked about."""

    def __init__(self):
        self.asked = 0

    def __call__(self, images):
        self.asked += len(images)
        return teacher(images)


def store_of(images=32, segment=8, keep="age", form="half", views=3, augment="none", **settings):
    ask, labeled = settings.pop("ask", teacher), settings.pop("labeled", False)
    answering = Answering(ask, views, augment, 4, CPU, torch.float32)
    return Store(
        Limits(images, segment, keep, labeled), form, answering, 0, **{"storage": NoStorage(), **settings}
    )


def numbered(first, count, shape=(1, 4, 4)):
    """Images whose first pixel is their number, which half precision holds exactly."""
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(first)) / 8
    images[:, 0, 0, 0] = torch.arange(first, first + count).float()
    return images


def fill(store, count, batch=4, first=0):
    for number in range(first, first + count, batch):
        store.add(numbered(number, batch))
    return store


def kept(store):
    """The numbers of the images that count, in order."""
    pairs = zip(store.sealed.segments, store.sealed.rolls, strict=True)
    return [int(x) for s, r in pairs for x in s.packed.images(torch.float32)[r.living, 0, 0, 0]]


def drawn(store, count):
    places, view = store.draw(count)
    return store.show(places, view, slice(0, count), CPU, torch.float32)


def of_numbers(classes, key=None, difficulty=None):
    count = len(classes)
    return Roll(
        np.ones(count, bool),
        np.asarray(key or np.linspace(0, 0.9, count)),
        np.asarray(classes),
        np.asarray(difficulty or [0.0] * count, np.float32),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bytes_are_off_by_half_a_step_of_the_channels_own_range(dtype):
    images = (
        torch.randn(5, 3, 8, 8, dtype=dtype) * torch.tensor([0.1, 1.0, 40.0], dtype=dtype).view(3, 1, 1) + 7
    )
    packed = Packed.of(images, "uint8")
    assert packed.pixels.dtype == torch.uint8
    off = (packed.images(torch.float64) - images.double()).abs().amax((2, 3))
    images = images.double()
    span = images.amax((2, 3)) - images.amin((2, 3))
    assert (off <= span / 510 + 1e-6 * images.abs().amax((2, 3))).all()
    assert (off > span / 520).any()


def test_a_channel_of_one_value_and_half_precision_are_exact():
    images = torch.full((2, 1, 4, 4), 0.3)
    assert torch.equal(Packed.of(images, "uint8").images(torch.float32), images)
    images = torch.randn(2, 3, 4, 4).half()
    assert torch.equal(Packed.of(images.float(), "half").images(torch.float32), images.float())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("form", ["uint8", "half"])
def test_an_image_that_is_not_finite_does_not_become_one_that_is(form, bad):
    images = torch.zeros(2, 1, 4, 4)
    images[1, 0, 2, 3] = bad
    shown = Packed.of(images, form).images(torch.float32)
    assert shown[0].isfinite().all()
    assert not shown[1].isfinite().all()


def test_an_order_has_each_number_once_and_goes_on_from_two_numbers():
    epochs = Epochs(3)
    taken = np.concatenate([epochs.take(10, 4) for _ in range(5)])
    assert sorted(taken[:10]) == sorted(taken[10:]) == list(range(10))
    assert list(taken[:10]) != list(taken[10:])
    epochs.restart()
    epochs.take(7, 3)
    other = Epochs(3)
    other.load_state_dict(epochs.state_dict())
    assert list(other.take(7, 12)) == list(epochs.take(7, 12))


@pytest.mark.parametrize("keep", ["age", "random", "balanced", "hardest"])
@pytest.mark.parametrize("augment", ["none", "flip-shift", EVERYTHING])
@pytest.mark.parametrize("form", ["uint8", "half"])
def test_the_answers_are_what_the_teacher_says_to_the_images_that_are_shown(keep, augment, form):
    store = fill(store_of(keep=keep, augment=augment, form=form), 120)
    views = set()
    for _ in range(8):
        shown = drawn(store, 16)
        torch.testing.assert_close(shown.logits, teacher(shown.images), rtol=1e-5, atol=1e-3)
        views |= {tuple(row) for row in shown.images[:, 0, :, 1].tolist()}
    assert len(views) > 30


def test_without_stored_views_new_ones_are_drawn_and_nobody_is_asked():
    ask = Counting()
    store = fill(store_of(views=0, augment="flip-shift", ask=ask), 32)
    first, second = drawn(store, 32), drawn(store, 32)
    assert first.logits is None
    assert ask.asked == 0
    assert not set(map(str, first.images.tolist())) >= set(map(str, second.images.tolist()))


def test_each_image_of_a_segment_may_be_a_partner_beside_a_segment_of_one(monkeypatch):
    store = fill(store_of(segment=16, views=0, augment="mix"), 16)
    store.sealed.add(Packed.of(numbered(100, 1), "half"))
    partners = set()

    def spied(segments, places, views, *rest):
        partners.update(zip(places.segment.tolist(), views.partner.tolist(), strict=True))
        return show(segments, places, views, *rest)

    monkeypatch.setattr("dfad_fast.sources.banking.store.show", spied)
    for _ in range(20):
        drawn(store, 17)
    assert partners == {*((0, row) for row in range(16)), (1, 0)}


def test_the_first_view_is_the_image_as_it_is():
    store = fill(store_of(augment=EVERYTHING), 8)
    (segment,) = store.sealed.segments
    expected = teacher(segment.packed.images(torch.float32))
    torch.testing.assert_close(segment.logits[:, 0], expected)


def test_by_age_the_oldest_segments_go():
    store = fill(store_of(images=20, segment=8), 64)
    assert kept(store) == list(range(48, 64))
    assert store.sealed.count == 16


def test_by_chance_what_stays_is_a_uniform_draw_from_all():
    numbers = []
    for seed in range(10):
        answering = Answering(teacher, 0, "none", 32, CPU, torch.float32)
        store = fill(Store(Limits(24, 8, "random"), "half", answering, seed, NoStorage()), 480, batch=8)
        assert store.sealed.count == 24
        numbers += kept(store)
    # Draws from 0 to 479: a mean of 239.5 within five standard errors.
    assert np.mean(numbers) == pytest.approx(239.5, abs=5 * 138.6 / len(numbers) ** 0.5)


def test_balanced_takes_from_the_largest_class():
    store = store_of(images=24, keep="balanced")
    rare = iter(range(3, 4000, 4))
    for first in range(0, 400, 4):
        images = numbered(first, 4)
        images[:, 0, 0, 0] = images[:, 0, 0, 0] // 4 * 4 + torch.tensor([0.0, 0.0, 1.0, 2.0])
        if first % 40 == 0:
            images[0, 0, 0, 0] = next(rare)
        store.add(images)
    classes = np.bincount(np.array(kept(store)) % 4, minlength=4)
    assert classes.tolist() == [6, 6, 6, 6]


def unbalanced(first, count):
    """Nine of ten images in a row are of class 0, and one is of class 1."""
    images = numbered(first, count)
    images[:, 0, 0, 0] = torch.tensor(
        [4.0 * number + (number % 10 == 0) for number in range(first, first + count)]
    )
    return images


@pytest.mark.parametrize(("repeats", "share"), [(10.0, 0.5), (2.0, 0.2), (1.0, 0.1), (None, 0.1)])
@pytest.mark.parametrize("views", [0, 3])
def test_with_repeats_the_classes_are_balanced_in_what_is_shown(repeats, share, views):
    store = store_of(images=80, repeats=repeats, labeled=repeats is not None, views=views, augment="flip")
    for first in range(0, 80, 8):
        store.add(unbalanced(first, 8))
    count = 2000
    numbers = torch.cat([drawn(store, 20).images.round().flatten(1).amax(1) for _ in range(count // 20)])
    found = float((numbers % 4 == 1).double().mean())
    assert found == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5)


def test_images_that_are_added_later_are_balanced_too():
    store = store_of(images=40, repeats=10.0, labeled=True)
    for first in range(0, 40, 8):
        store.add(unbalanced(first, 8))
    drawn(store, 8)
    late = numbered(0, 40)
    late[:, 0, 0, 0] = 2.0
    for part in late.split(8):
        store.add(part)
    assert set(drawn(store, 40).logits.argmax(1).tolist()) == {2}


def test_of_equal_classes_the_smallest_key_goes_first():
    roll = of_numbers([0, 0, 0, 1, 1, 2], key=[0.1, 0.9, 0.5, 0.3, 0.2, 0.0])
    # What is third in its class goes first, then the second ones, then the first ones by their keys.
    assert np.argsort(ranks("balanced", roll)).tolist() == [0, 4, 2, 5, 3, 1]


def test_hardest_keeps_what_the_student_gets_wrong_or_has_not_seen():
    roll = of_numbers([0] * 4, difficulty=[2.0, np.inf, 0.5, 1.0])
    assert np.argsort(ranks("hardest", roll)).tolist() == [2, 3, 0, 1]
    store = fill(store_of(images=16, keep="hardest"), 16)
    places, _ = store.draw(16)
    numbers = places.take(lambda index: store.sealed.segments[index].packed.pixels)[:, 0, 0, 0].numpy()
    store.note(places, np.where(numbers % 2 == 0, 0.25, 5.0).astype(np.float32))
    fill(store, 8, first=100)
    assert sorted(kept(store)) == [*range(1, 16, 2), *range(100, 108)]


@pytest.mark.parametrize("keep", ["age", "random", "balanced", "hardest"])
@pytest.mark.parametrize("augment", ["none", "mix"])
def test_memory_is_bounded_where_the_bank_is_filled_many_times(keep, augment):
    store = store_of(images=40, segment=8, keep=keep, augment=augment)
    per_image = fill(store_of(images=8, segment=8), 8).size / 8
    counts, sizes = [], []
    for first in range(0, 480, 4):
        store.add(numbered(first, 4))
        counts.append(store.sealed.count)
        sizes.append(store.size)
    assert max(counts) == 40
    assert min(counts[10:]) >= 32
    # Twice what counts, a segment that is joined with none, and the open one.
    assert max(sizes) <= (40 + 8) * per_image * (1 if keep == "age" else 2)


def test_joined_segments_carry_their_answers_unless_partners_may_be_gone():
    for augment, again in (("flip-shift", False), ("cutmix", True)):
        ask = Counting()
        store = fill(store_of(images=16, keep="random", augment=augment, ask=ask), 160)
        assert store.sealed.segments[-1].number >= 20  # of 160 images in segments of 8
        assert (ask.asked > 160 * 3) == again


def stored(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Shelf:
    """A storage that keeps copies."""

    def __init__(self):
        self.held, self.removed = {}, set()

    def keep(self, name, tensors):
        self.held[name] = {key: value.clone() for key, value in tensors.items()}
        self.removed.discard(name)
        return self.held[name]

    def read(self, name):
        self.removed.discard(name)
        return self.held[name]

    def names(self):
        return list(self.held)

    def whole_name(self, name):
        return f"all-{name}"

    def remove(self, name):
        self.removed.add(name)


@pytest.mark.parametrize("on_shelf", [False, True])
@pytest.mark.parametrize(
    ("keep", "repeats"),
    [("age", None), ("age", 4.0), ("random", None), ("balanced", None), ("hardest", None)],
)
def test_it_goes_on_to_the_same_bits(keep, repeats, on_shelf):
    settings = {"keep": keep, "augment": "flip-shift-mix", "repeats": repeats, "labeled": repeats is not None}
    if on_shelf:
        settings |= {"storage": Shelf(), "in_state": False}
    store = fill(store_of(**settings), 66, batch=6)
    drawn(store, 10)
    state = stored(store.state_dict())
    if on_shelf:
        assert not any(segment["tensors"] for segment in state["segments"])

    def goes_on(store):
        return [drawn(store, 5).images, *[drawn(fill(store, 30, 6, 66), 5).logits], torch.tensor(kept(store))]

    expected = goes_on(store)
    other = store_of(**settings)
    other.load_state_dict(state)
    for found, wanted in zip(goes_on(other), expected, strict=True):
        assert torch.equal(found, wanted)
    if on_shelf:
        shelf = settings["storage"]
        assert set(shelf.held) - shelf.removed == {
            f"{segment.number:08d}" for segment in other.sealed.segments
        }


def test_it_moves_into_a_storage_and_out_of_one():
    store = fill(store_of(), 16)
    shelf = Shelf()
    outside = store_of(storage=shelf, in_state=False)
    outside.load_state_dict(stored(store.state_dict()))
    assert sorted(shelf.names()) == ["00000000", "00000001"]
    inside = store_of(storage=shelf)
    inside.load_state_dict(stored(outside.state_dict()))
    assert torch.equal(drawn(inside, 16).images, drawn(store, 16).images)
    assert set(shelf.names()) == {"00000000", "00000001"}
    with pytest.raises(UsageError, match="is stored in the run's folder, but there is none"):
        store_of().load_state_dict(stored(outside.state_dict()))


def test_a_snapshot_copies_nothing_that_does_not_change():
    store = fill(store_of(), 20)
    shared = store.unchanging
    snapshot = copy.deepcopy(store.state_dict(), {id(tensor): tensor for tensor in shared})
    segment = store.sealed.segments[0]
    assert snapshot["segments"][0]["tensors"]["pixels"] is segment.packed.pixels
    store.note(store.draw(16)[0], np.ones(16, np.float32))
    fill(store, 40, first=20)
    other = store_of()
    other.load_state_dict(snapshot)
    assert kept(other) == list(range(16))
    assert np.isinf(other.sealed.rolls[0].difficulty).all()
