"""Procedural images as a source: what is chosen to draw, that steps see the form's images, and that runs go on."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfad_fast import BlackBoxTeacher, DFADTrainer
from dfad_fast.distributed import processes
from dfad_fast.errors import UsageError
from dfad_fast.sources import ImageForm, Turn, as_source
from dfad_fast.sources.procedural.choosing import _by_answers, choose_drawing
from dfad_fast.sources.procedural.drawing import Drawing, evenly
from dfad_fast.sources.procedural.kinds import parse_kinds
from dfad_fast.sources.procedural.source import Procedural
from dfad_fast.sources.procedural.stock import Stock
from tests.small_networks import make_net

LEAVES = Drawing({"leaves": 1.0})


def trainer_of(pair, source="procedural(kinds=leaves, surround=none)", method="dfad", **settings):
    teacher, student = pair
    settings = {"latent_dim": 8, "batch_size": 8, "seed": 0, **settings}
    shape = settings.pop("shape", (1, 8, 8))
    return DFADTrainer(teacher, copy.deepcopy(student), shape, method, source=source, **settings)


def shown_to_student(trainer, steps=1):
    shown = []
    hook = trainer.networks.student.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    for _ in range(steps):
        trainer.step()
    hook.remove()
    return shown


def taught_on(images, seed=0):
    """A teacher whose batch norm layers remember ``images`` [N, 1, H, W]."""
    torch.manual_seed(seed)
    teacher = make_net(8)
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for batch in images.split(100):
            teacher.train()(batch)
    return teacher.eval(), make_net(4)


def blobs(surround):
    """Images of none of the kinds drawn: smooth blobs, with a border of ``surround`` where it is a level."""
    rng = np.random.default_rng(3)
    rows = np.sin(
        rng.uniform(0.2, 0.6, (400, 20, 1)) * np.arange(20)[:, None] + rng.uniform(0, 6, (400, 1, 1))
    )
    images = 0.5 + 0.4 * rows * np.swapaxes(np.roll(rows, 1, 0), 1, 2)
    if surround is not None:
        inside = np.zeros((20, 20))
        inside[4:16, 5:15] = 1
        images = surround + (images - surround) * inside
    return torch.from_numpy(images).float()[:, None]


def chosen_for(teacher, form, kinds="all", surround="auto"):
    @torch.no_grad()
    def ask(images):
        return teacher(images)

    prober = Asking(teacher, ask)
    drawing = choose_drawing(parse_kinds(kinds), surround, prober, form, seed=0)
    assert choose_drawing(parse_kinds(kinds), surround, prober, form, seed=1) is drawing
    return drawing


class Asking:
    """The part of a prober that a choice needs."""

    device = torch.device("cpu")

    def __init__(self, teacher, ask):
        self.trio = SimpleNamespace(teacher=teacher)
        self.asker = lambda **_: ask


@pytest.mark.parametrize(("level", "surround"), [(None, "none"), (0.0, "dark"), (1.0, "light")])
def test_the_surround_is_the_datas(level, surround):
    form = ImageForm((1, 20, 20), (0.4,), (0.3,))
    teacher, _ = taught_on(form.normalize(blobs(level)))
    drawing = chosen_for(teacher, form)
    assert drawing.surround == surround
    assert drawing.chosen
    assert sum(drawing.shares.values()) == pytest.approx(1.0)
    assert min(drawing.shares.values()) >= 0.1
    assert drawing == chosen_for(teacher, form)


@pytest.mark.parametrize("kind", ["leaves", "noise", "gradients"])
def test_drawings_like_the_data_have_the_largest_share(kind):
    form = ImageForm((1, 16, 16), (0.5,), (0.25,))
    pixels = Drawing({kind: 1.0}, "none", 0.6).draw(np.random.default_rng(8), 400, form.shape)
    drawing = chosen_for(taught_on(form.normalize(pixels))[0], form)
    assert max(drawing.shares, key=drawing.shares.get) == kind
    assert (drawing.surround, drawing.contrast) == ("none", 0.6)


class KnowsTheBorder(nn.Module):
    """Tells which quarter of an image is the lightest, the more surely the closer the border is to ``level``."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, images):
        edges = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], -1)
        away = (edges - self.level).abs().mean((1, 2))[:, None]
        return (
            60
            * (1 - 4 * away).clamp_min(0)
            * F.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
        )


@pytest.mark.parametrize(("level", "surround"), [(-1.0, "dark"), (1.0, "light")])
def test_a_teacher_without_batch_norm_chooses_by_certain_and_varied_answers(level, surround):
    drawing = chosen_for(KnowsTheBorder(level), ImageForm((1, 16, 16), (0.5,), (0.5,)))
    assert (drawing.surround, drawing.chosen) == (surround, True)
    assert sum(drawing.shares.values()) == pytest.approx(1.0)
    assert min(drawing.shares.values()) >= 0.1


def test_certain_answers_of_all_classes_are_closest():
    """A picture's pixels are the answer itself: those of the second batch are as certain, but of all four classes."""
    all_classes = 50 * torch.eye(4).reshape(4, 1, 2, 2)
    one_class = all_classes[:1].expand(4, -1, -1, -1)
    prober = Asking(nn.Flatten(), lambda images: images.flatten(1))
    mixtures = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    far = _by_answers([one_class, all_classes, torch.zeros(4, 1, 2, 2)], mixtures, prober)
    assert int(far.argmin()) == 1
    classes = np.array([0.1 + 0.2 + 0.025, *3 * [0.2 + 0.025]])
    assert far[1].item() == pytest.approx(0.1 * np.log(4) + (classes * np.log(classes)).sum(), rel=1e-5)


def test_kinds_have_equal_shares_if_the_teacher_tells_no_drawings_apart():
    class Constant(nn.Module):
        def forward(self, images):
            return images.new_zeros(len(images), 3)

    assert chosen_for(Constant(), ImageForm((1, 8, 8)), "leaves_noise") == Drawing(
        {"leaves": 0.5, "noise": 0.5}
    )


def test_a_black_box_is_not_asked_for_a_drawing():
    def refuse(images):
        raise AssertionError("asked")

    teacher, form = BlackBoxTeacher(refuse, classes=3), ImageForm((1, 8, 8))
    assert chosen_for(teacher, form, "leaves_noise") == Drawing({"leaves": 0.5, "noise": 0.5})
    assert chosen_for(teacher, form, "noise", "dark") == Drawing({"noise": 1.0}, "dark")


def test_drawings_are_said_in_words():
    assert str(LEAVES) == "dead leaves"
    two = Drawing({"leaves": 0.6, "shapes": 0.4}, "dark", 0.6, chosen=True)
    assert str(two) == (
        "dead leaves (60 %) and shapes (40 %) on a dark surround, in low contrast (chosen to fit the teacher)"
    )
    even = Drawing(evenly(("noise", "shapes", "gradients")), "light", 1.6)
    assert str(even) == "colored noise, shapes and gradients on a light surround, in high contrast"


def test_the_images_of_a_finished_run_are_of_its_own_drawing(pair):
    source, was = (
        trainer_of(pair, text).distiller.source for text in ("procedural(kinds=leaves)", "procedural")
    )
    expected = next(was.held_out(4, 4))
    assert not torch.equal(next(source.held_out(4, 4)), expected)
    source.recall(was.state_dict())
    assert torch.equal(next(source.held_out(4, 4)), expected)


@pytest.mark.parametrize(("surround", "level"), [("none", 0.5), ("dark", 0.0), ("light", 1.0)])
def test_contrast_is_about_the_surround(surround, level):
    plain, strong = (
        Drawing({"leaves": 1.0}, surround, contrast).draw(np.random.default_rng(0), 20, (1, 9, 9))
        for contrast in (1.0, 1.6)
    )
    torch.testing.assert_close(strong, (level + 1.6 * (plain - level)).clamp(0, 1))
    assert not torch.equal(strong, plain)


def stock_of(seed, shape=(1, 8, 8), kinds=("leaves", "noise")):
    return Stock(Drawing(evenly(kinds)), ImageForm(shape, (0.5,), (0.5,)), np.random.default_rng(seed), False)


def test_a_stock_gives_each_image_once_and_goes_on_where_it_was():
    stock, others = stock_of(0), stock_of(0)
    images = torch.cat([stock.take(count) for count in (100, 1, 60, 300, 51)])
    assert torch.equal(images, others.take(512))
    assert len(images.unique(dim=0)) == 512
    assert images.min() < -0.5
    assert images.max() > 0.5
    again = stock_of(1)
    again.load_state_dict(copy.deepcopy(stock.state_dict()))
    assert torch.equal(again.take(200), stock.take(200))
    assert all(not isinstance(value, torch.Tensor) for value in stock.state_dict().values())


@pytest.mark.parametrize(("side", "size"), [(28, 256), (256, 128), (1024, 8), (4096, 1)])
def test_a_stock_of_large_images_is_small(side, size):
    assert stock_of(0, (1, side, side)).size == size


def test_the_student_sees_new_images_in_each_step(pair):
    trainer = trainer_of(pair, image_mean=(0.5,), image_std=(0.1,))
    images = torch.cat(shown_to_student(trainer, steps=3))
    assert images.shape == (3 * 5 * 8, 1, 8, 8)
    assert len(images.unique(dim=0)) == len(images)
    assert images.min() >= -5.0001
    assert images.max() <= 5.0001
    assert images.std() > 1.0
    assert trainer.images_per_iteration == 40
    assert trainer.generated_images == 120


def test_images_of_an_unknown_normalization_are_standardized(pair):
    images = torch.cat(shown_to_student(trainer_of(pair, batch_size=64), steps=1))
    assert images.mean().abs() < 0.3
    assert images.std() == pytest.approx(1.0, abs=0.2)


def test_the_teachers_passes_of_the_choice_are_counted_once(pair):
    trainer = trainer_of(pair)
    trainer.step()
    first = trainer.distiller.state.teacher_passes
    trainer.step()
    second = trainer.distiller.state.teacher_passes - first
    assert second == 5 * 8
    assert first == second + 3 * 64  # three contrasts of one kind
    assert "procedural images: dead leaves" in trainer.notices[-1]


def test_a_mixture_shows_both(pair):
    trainer = trainer_of(pair, "0.5*procedural(kinds=shapes, surround=dark) + 0.5*fresh", "dfad-ar")
    batches = torch.stack(shown_to_student(trainer)[:5]).detach()
    assert batches.shape == (5, 8, 1, 8, 8)
    # Those drawn are dark but for a figure, and what the generator makes has no two pixels alike.
    ground = batches.amin((3, 4), keepdim=True)
    dark = (batches == ground).float().mean((2, 3, 4)) > 0.2
    assert dark[:, :4].float().mean() > 0.8
    assert not dark[:, 4:].any()


def test_a_run_goes_on_bit_for_bit(pair, tmp_path):
    source = "0.5*procedural(kinds=leaves_shapes, surround=dark, schedule=linear) + 0.5*fresh"
    whole, stopped = trainer_of(pair, source), trainer_of(pair, source, out=tmp_path)
    stopped.planned_iterations = 4
    whole.fit(4)
    stopped.fit(2)
    resumed = trainer_of(pair, source, out=tmp_path, resume=True)
    resumed.fit(2)
    for key, value in whole.networks.student.state_dict().items():
        assert torch.equal(resumed.networks.student.state_dict()[key], value), key
    assert whole.distiller.state.teacher_passes == resumed.distiller.state.teacher_passes
    assert whole.notices == resumed.notices


def test_processes_show_their_rows_of_the_same_images(pair, monkeypatch):
    whole = torch.cat(shown_to_student(trainer_of(pair)))
    parts = []
    for rank in range(2):
        trainer = trainer_of(pair)
        source = trainer.distiller.source
        with monkeypatch.context() as changed:
            changed.setattr(processes, "count", lambda: 2)
            changed.setattr(processes, "rank", lambda rank=rank: rank)
            turn = Turn(iter([]), [], 0.0)
            changed.setattr(source._bench, "see", lambda images, rows: images)
            parts.append(torch.stack(list(source.batches(turn))))
        assert turn.generated == 40
    assert torch.equal(torch.cat(parts, 1).flatten(0, 1), whole)


def test_held_out_images_are_the_same_each_time_and_no_steps(pair):
    trainer = trainer_of(pair)
    shown = torch.cat(shown_to_student(trainer, steps=2))
    first = list(trainer.distiller.held_out_batches(20))
    assert [len(images) for images in first] == [8, 8, 4]
    for own, other in zip(first, trainer.distiller.held_out_batches(20), strict=True):
        assert torch.equal(own, other)
    assert len(torch.cat([shown, *first]).unique(dim=0)) == len(shown) + 20


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("procedural(kinds=leafs)", "unknown kind of drawing 'leafs': did you mean 'leaves'"),
        ("procedural(kinds=leaves_leaves)", "repeats a name"),
        ("procedural(surround=black)", "unknown surround 'black'"),
        ("procedural(surrounds=dark)", "surrounds"),
    ],
)
def test_unknown_words_are_refused(source, message):
    with pytest.raises(UsageError, match=message):
        as_source(source)


def test_settings_are_written_as_they_are_read():
    text = "procedural(kinds=leaves_shapes, surround=dark)"
    assert str(as_source(text)) == text
    assert as_source("procedural") == Procedural()
