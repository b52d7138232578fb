from dataclasses import replace

import pytest
import torch
from torch import nn

from dfad_fast.methods import METHODS
from dfad_fast.networks.levers import PLAIN
from dfad_fast.networks.probing import Prober
from dfad_fast.networks.trio import Trio
from dfad_fast.terms import L1, ActivationBoundary, BatchNormStatistics, Weighted
from tests.small_networks import make_net

SHAPE = (1, 8, 8)
READS_STATISTICS = (Weighted(1.0, L1()), Weighted(1.0, BatchNormStatistics()))
OTHERS = (Weighted(1.0, L1()), Weighted(1.0, ActivationBoundary()))


def prober(pair, taps=None, **options):
    levers = replace(PLAIN, **options)
    return Prober(Trio(*pair, nn.Identity(), SHAPE, taps, taps, levers), levers)


def probe(of, rows, graph=True):
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_(graph)
    return of.probe(images, of.look(images, rows, graph), rows, [()] * len(rows))[0]


def test_the_folded_teacher_answers_as_the_teacher(pair):
    plain, folded = prober(pair), prober(pair, fold_teacher=True)
    assert plain.folding is None
    assert str(folded.folding) == "2 of 2 folded into the layers before them"
    expected, came = probe(plain, OTHERS), probe(folded, OTHERS)
    torch.testing.assert_close(came.teacher, expected.teacher, rtol=1e-4, atol=1e-5)
    assert len(came.teacher_features) == 2
    for a, b in zip(came.teacher_features, expected.teacher_features, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for each in (came, expected):
        each.teacher.square().sum().backward()
    torch.testing.assert_close(came.images.grad, expected.images.grad, rtol=1e-4, atol=1e-5)
    assert all(p.grad is None for p in folded.quick_teacher.parameters())


@pytest.mark.parametrize(("rows", "asked"), [(OTHERS, "folded"), (READS_STATISTICS, "original")])
def test_the_original_answers_only_where_its_statistics_are_read(pair, rows, asked):
    of = prober(pair, fold_teacher=True)
    calls = []
    of.trio.teacher.register_forward_hook(lambda *_: calls.append("original"))
    of.quick_teacher.register_forward_hook(lambda *_: calls.append("folded"))
    seen = probe(of, rows, graph=False)
    assert calls == [asked]
    assert len(seen.statistics) == (2 if asked == "original" else 0)
    seen.ask_teacher(seen.images)
    assert calls == [asked, asked]
    assert not seen.teacher.requires_grad


def test_a_tap_at_a_convolutions_output_reads_the_same(pair):
    taps = ["4", "6#0"]
    plain, folded = prober(pair, taps), prober(pair, taps, fold_teacher=True)
    assert str(folded.folding) == "1 of 2 folded into the layers before them"
    came, expected = (probe(of, OTHERS).teacher_features for of in (folded, plain))
    for a, b in zip(came, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_teacher_without_batch_norm_answers_itself():
    of = prober((make_net(8, batch_norm=False), make_net(4)), fold_teacher=True)
    assert str(of.folding) == "none folded: there are no batch norm layers"
    assert of.quick_teacher is of.trio.teacher
    assert probe(of, METHODS["dfad"].student).teacher.shape == (4, 4)
