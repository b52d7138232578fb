import pytest
import torch
from torch import nn

from dfad_fast import DFADTrainer
from dfad_fast.networks.levers import PLAIN, Levers
from dfad_fast.networks.probing import Runner
from tests.small_networks import make_net

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def compiled(monkeypatch):
    """Networks that were compiled, and how often those ran; compiling itself takes too long here."""
    runs = []

    def compile(network, dynamic):
        assert dynamic is False

        def run(x):
            runs.append(network)
            return network(x)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    return runs


def test_a_compiled_network_runs_where_nobody_looks_inside(compiled):
    network = make_net(4)
    runner = Runner(network, Levers(compile=True), frozen=False)
    runner(IMAGES)
    runner(IMAGES, hooked=True)
    assert compiled == [network]


def networks_of(trainer):
    return trainer.networks.generator, trainer.networks.student, trainer.distiller.prober.folding.network


def test_compile_reaches_the_networks_that_no_term_reads_features_of(compiled, pair):
    settings = {"latent_dim": 8, "batch_size": 8, "speed": Levers(compile=True)}
    trainer = DFADTrainer(*pair, (1, 8, 8), "dfad", **settings)
    trainer.step()
    for network in networks_of(trainer):
        assert compiled.count(network) == 6
    compiled.clear()
    trainer = DFADTrainer(*pair, (1, 8, 8), "dfad-ar", **settings)
    trainer.step()
    # In the student's steps features are read.
    assert [compiled.count(network) for network in networks_of(trainer)] == [6, 1, 1]


@pytest.mark.slow
def test_a_step_compiled_in_earnest_is_near_the_plain_one(pair):
    losses = []
    for levers in (PLAIN, Levers(compile=True)):
        torch.manual_seed(0)
        networks = [make_net(8), make_net(4)]
        trainer = DFADTrainer(*networks, (1, 8, 8), "dfad", latent_dim=8, batch_size=8, speed=levers)
        losses.append([value.item() for value in trainer.step().values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_own_convolutions_are_used_in_steps_and_only_there():
    seen = []
    layer = nn.Conv2d(32, 32, 3, padding=1)
    layer.register_forward_pre_hook(lambda *_: seen.append("forward" in layer.__dict__))
    for levers in (
        Levers(),
        Levers(winograd=False, direct_convolutions=False),
        Levers(precision="bfloat16"),
    ):
        runner = Runner(nn.Sequential(layer), levers, frozen=False)
        with runner.with_kernels():
            runner(torch.randn(2, 32, 4, 4))
    layer(torch.randn(2, 32, 4, 4))
    assert seen == [True, False, False, False]
