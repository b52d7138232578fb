from contextlib import nullcontext

import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.networks import measuring
from dfad_fast.networks.levers import Levers
from dfad_fast.networks.measuring import with_measured
from dfad_fast.networks.trio import Trio

SMALL = {"latent_dim": 8, "batch_size": 8}


@pytest.fixture
def takes(monkeypatch):
    """Seconds that a batch takes by the teacher's precision, on a clock of its own; the first takes longer."""
    seconds, now, asked = {}, [0.0], []

    class Timed:
        def __init__(self, trio, levers):
            self.precision = levers.teacher_precision

        def stepping(self):
            return nullcontext()

        def asker(self, graph):
            assert not graph
            return self.ask

        def ask(self, images):
            assert len(images) == 16
            now[0] += seconds[self.precision] + (0 if self.precision in asked else 60)
            asked.append(self.precision)

    monkeypatch.setattr(measuring, "Prober", Timed)
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    return seconds


@pytest.fixture
def trio(pair):
    return Trio(*pair, nn.Identity(), (1, 8, 8))


@pytest.mark.parametrize(("half", "chosen"), [(0.5, "bfloat16"), (0.95, "same"), (2.0, "same")])
def test_bfloat16_has_to_be_worth_it(takes, trio, half, chosen):
    takes |= {"same": 1.0, "bfloat16": half}
    assert with_measured(Levers(teacher_precision="measured"), trio, 16) == Levers(teacher_precision=chosen)


def test_nothing_is_measured_where_nothing_is_to_be_chosen(takes, trio):
    for levers in (Levers(), Levers(teacher_precision="bfloat16")):
        assert with_measured(levers, trio, 16) is levers
    narrow = Levers(precision="bfloat16", teacher_precision="measured")
    assert with_measured(narrow, trio, 16).teacher_precision == "same"


def test_it_is_measured_in_earnest(trio):
    chosen = with_measured(Levers(teacher_precision="measured"), trio, 16)
    assert chosen.teacher_precision in ("same", "bfloat16")


def test_the_teacher_alone_computes_in_it(pair):
    trainer = DFADTrainer(*pair, (1, 8, 8), "dfad", speed=Levers(teacher_precision="bfloat16"), **SMALL)
    seen = {}
    for name, network in zip(
        ("teacher", "student"), (trainer.distiller.prober.quick_teacher, pair[1]), strict=True
    ):
        layer = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
        layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
    losses = trainer.step()
    assert seen == {"teacher": torch.bfloat16, "student": torch.float32}
    assert all(loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.parametrize(
    ("precision", "of_teacher"), [("bfloat16", "float32"), ("float16", "float32"), ("float32", "bfloat16")]
)
def test_any_term_can_be_had_with_two_precisions(pair, precision, of_teacher):
    levers = Levers(precision=precision, teacher_precision=of_teacher)
    terms = "l1 + 0.1*boundary + hint + factor + attention + virtual(labels=teacher)"
    settings = {"student_terms": terms, "generator_terms": "-l1 + batch_norm", "speed": levers, **SMALL}
    for source in ("fresh", "0.5*procedural + 0.5*fresh"):
        losses = DFADTrainer(*pair, (1, 8, 8), "dfad", source=source, **settings).step()
        assert all(loss.isfinite() for loss in losses.values())


def test_a_sharded_teacher_is_not_measured(takes, trio):
    trio.teacher_is_sharded = True
    assert with_measured(Levers(teacher_precision="measured"), trio, 16) == Levers()


def test_a_run_goes_on_with_what_was_measured_when_it_began(pair, tmp_path, monkeypatch):
    def measured(found):
        monkeypatch.setattr(
            "dfad_fast.engine.setup.with_measured",
            lambda levers, trio, batch: (
                Levers(teacher_precision=found) if levers.teacher_precision == "measured" else levers
            ),
        )

    settings = {
        "method": "dfad",
        "speed": Levers(teacher_precision="measured"),
        "out": tmp_path / "run",
        **SMALL,
    }
    measured("bfloat16")
    trainer = DFADTrainer(*pair, (1, 8, 8), **settings)
    trainer.fit(iterations=2)
    assert trainer.speed.teacher_precision == "bfloat16"
    measured("same")
    again = DFADTrainer(*pair, (1, 8, 8), resume=True, **settings)
    assert again.speed.teacher_precision == "bfloat16"
    assert again.iteration == 2
