"""What a round is made of, part by part."""

import numpy as np
import pytest
import torch
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models import DFADGenerator
from dfad_fast.models.reading.batch_norm import LayerStatistics
from dfad_fast.sources.labels import balanced_labels
from dfad_fast.sources.restarted.contrasting import Contrasting, FeatureBank
from dfad_fast.sources.restarted.memory import StatisticsMemory
from dfad_fast.sources.restarted.meta_weights import MetaWeights
from dfad_fast.sources.restarted.source import Made
from dfad_fast.sources.restarted.weights import draw_anew, draw_first_layer, refuse_unknown_layers


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("count", [3, 8, 10, 13])
def test_labels_are_balanced(count):
    labels = balanced_labels(rng(), 4, count)
    frequencies = np.bincount(labels, minlength=4)
    assert len(labels) == count
    assert frequencies.max() - frequencies.min() <= 1
    assert (labels[: count // 4 * 4].reshape(-1, 4) == np.arange(4)).all()


def test_which_classes_a_small_batch_is_of_is_drawn():
    drawn = rng()
    assert len({tuple(balanced_labels(drawn, 10, 3)) for _ in range(20)}) > 10


@pytest.mark.parametrize("weights", ["uniform", "normal"])
def test_weights_drawn_anew_are_as_a_new_generators(weights):
    generator = DFADGenerator((3, 16, 16), latent_dim=64, width=32)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.fill_(7.0)
    draw_anew(generator, rng(), weights)
    first, norm = generator.project[0], generator.upsample[2]
    if weights == "uniform":
        bound = 1 / 8
        assert 0.95 * bound < first.weight.max() < bound
        assert 0.9 * bound < first.bias.abs().max() < bound
        assert first.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert bool((norm.weight == 1).all())
    else:
        assert first.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not first.bias.any()
        assert 0.01 < norm.weight.std() < 0.03
        assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not norm.bias.any()
    assert not any(bool((p == 7).any()) for p in generator.parameters())


def test_the_first_layer_alone_is_drawn_anew():
    generator = DFADGenerator((1, 8, 8), latent_dim=8, width=8)
    before = {name: p.clone() for name, p in generator.named_parameters()}
    draw_first_layer(generator, rng(), "uniform")
    changed = {name for name, p in generator.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"project.0.weight", "project.0.bias"}


def test_a_layer_whose_weights_nobody_knows_to_draw_is_refused():
    refuse_unknown_layers(DFADGenerator((1, 8, 8), latent_dim=8, width=8))
    with pytest.raises(UsageError, match="generator's 0 is a Bilinear, whose weights cannot be redrawn"):
        refuse_unknown_layers(nn.Sequential(nn.Bilinear(2, 2, 2)))
    with pytest.raises(UsageError, match="has no linear or convolution layer"):
        refuse_unknown_layers(nn.Sequential(nn.BatchNorm1d(2)))


def test_meta_weights_move_by_the_gradients_of_all_steps_together():
    generator = nn.Linear(2, 1, bias=False)
    meta = MetaWeights(generator, betas=(0.5, 0.999))
    expected = nn.Parameter(generator.weight.detach().clone())
    optimizer = torch.optim.Adam([expected], lr=0.3, betas=(0.5, 0.999))
    for gradients in ([[1.0, -2.0], [0.5, 3.0]], [[-1.0, 1.0], [1.0, float("inf")]]):
        meta.begin()
        assert torch.equal(generator.weight, expected)
        for gradient in gradients:
            generator.weight.grad = torch.tensor([gradient])
            meta.note()
            with torch.no_grad():
                generator.weight.add_(1.0)
        meta.end(rate=0.3)
        finite = [[x if x < 10 else 0.0 for x in gradient] for gradient in gradients]
        expected.grad = torch.tensor(finite).sum(0, keepdim=True)
        optimizer.step()
    torch.testing.assert_close(meta.state_dict()["weights"][0], expected.detach())


def layer(mean, variance):
    return LayerStatistics(torch.tensor([mean]), torch.tensor([variance]), torch.zeros(1), torch.ones(1))


def test_former_rounds_are_remembered_with_their_share():
    memory = StatisticsMemory(0.75)
    (first,) = memory.blended([layer(1.0, 2.0)])
    assert (first.mean, first.variance) == (1.0, 2.0)
    memory.take([first])
    (second,) = memory.blended([layer(3.0, 6.0)])
    assert (second.mean, second.variance) == (1.5, 3.0)
    memory.take([second])
    (third,) = memory.blended([layer(0.0, 0.0)])
    assert third.mean.item() == pytest.approx(0.75 * 1.5)
    assert third.running_variance == 1
    forgetful = StatisticsMemory(0.0)
    forgetful.take([first])
    assert forgetful.blended([second]) == [second]


def test_the_images_of_the_lower_loss_are_kept():
    low, high = (
        Made(torch.tensor(loss), torch.full((2, 1), loss), torch.full((2, 3), loss), [layer(loss, loss)])
        for loss in (1.0, 2.0)
    )
    for first, later in ((low, high), (high, low)):
        kept = first.or_better(later)
        assert kept.loss == 1
        assert bool((kept.images == 1).all())
        assert bool((kept.features == 1).all())
        assert kept.statistics == later.statistics
    bad = Made(torch.tensor(float("nan")), torch.zeros(2, 1), None, [])
    assert low.or_better(bad).images[0] == 1


def test_the_oldest_features_give_way():
    bank = FeatureBank(5, 1, torch.device("cpu"))
    for values in ([0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [1e9, 7.0]):
        bank.take(torch.tensor(values)[:, None])
    assert len(bank) == 5
    drawn = bank.draw(rng(), 10)
    most = torch.finfo(torch.float16).max
    assert sorted(drawn.flatten().tolist()) == [3.0, 4.0, 5.0, 7.0, most]
    assert len({tuple(bank.draw(rng(seed), 2).flatten().tolist()) for seed in range(10)}) > 3
    other = FeatureBank(5, 1, torch.device("cpu"))
    other.load_state_dict(bank.state_dict())
    for each in (bank, other):
        each.take(torch.tensor([[8.0]]))
    assert torch.equal(bank.draw(rng(), 5), other.draw(rng(), 5))


def test_more_features_than_there_is_room_for_leave_the_last():
    bank = FeatureBank(3, 1, torch.device("cpu"))
    bank.take(torch.arange(8.0)[:, None])
    assert sorted(bank.draw(rng(), 3).flatten().tolist()) == [5.0, 6.0, 7.0]


def test_the_head_goes_on_where_it_was():
    contrasting = Contrasting(4, 8, 8, rng(), torch.zeros(1))
    parameters = list(contrasting.head.parameters())
    began = [p.detach().clone() for p in parameters]
    alone = torch.optim.Adam(parameters, lr=0.1)
    for _ in range(3):
        adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.5, 0.999))
        contrasting.lend(adam, rate=0.1)
        for p in parameters:
            p.grad = torch.linspace(-1.0, 2.0, p.numel()).view(p.shape)
        adam.step()
        contrasting.take_back(adam)
    after = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, before in zip(parameters, began, strict=True):
            p.copy_(before)
    for _ in range(3):
        alone.step()
    for p, expected in zip(parameters, after, strict=True):
        torch.testing.assert_close(p.detach(), expected)


def test_a_norm_without_a_shift_is_drawn_anew():
    norm = nn.LayerNorm(3, bias=False)
    norm.weight.data.fill_(2.0)
    draw_anew(norm, rng(), "uniform")
    assert (norm.weight == 1).all()
