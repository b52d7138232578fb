import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models import load_factory_network, load_weights


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))


def test_weights_come_from_safetensors_and_from_state_dicts(tmp_path, network):
    weights = {key: torch.randn_like(value) for key, value in network.state_dict().items()}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "b.pt")
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "c.pt")
    for name in ("a.safetensors", "b.pt", "c.pt"):
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        load_weights(network, tmp_path / name)
        assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())


def test_weights_that_do_not_fit_are_listed_and_nothing_is_loaded(tmp_path, network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save(
        {"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(4), "2.bias": torch.zeros(1)}, tmp_path / "w.pt"
    )
    with pytest.raises(UsageError) as caught:
        load_weights(network, tmp_path / "w.pt", "teacher")
    message = str(caught.value)
    assert "missing: 1.bias, 1.weight" in message
    assert "unexpected: 2.bias" in message
    assert "wrong shape: 0.bias (4,) instead of (3,)" in message
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def test_a_weights_file_that_holds_code_is_refused_and_not_run(tmp_path, network, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "plain.pt"):
        with pytest.raises(UsageError, match=name):
            load_weights(network, tmp_path / name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["gone.pt", "noise.pt", "noise.safetensors", "list.pt"])
def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path, network, name):
    (tmp_path / "noise.pt").write_bytes(b"noise" * 100)
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 100)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UsageError) as caught:
        load_weights(network, tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_factories_come_from_files_and_modules(tmp_path):
    (tmp_path / "neighbour.py").write_text("WIDTH = 5\n")
    (tmp_path / "mine.py").write_text(
        "from neighbour import WIDTH\nfrom torch import nn\ndef net():\n    return nn.Linear(WIDTH, 2)\n"
    )
    assert load_factory_network(f"{tmp_path}/mine.py:net").in_features == 5
    assert isinstance(load_factory_network("torch.nn:Identity"), nn.Identity)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torch.nn", "pkg.module:factory"),
        ("nowhere_at_all:net", "could not be imported"),
        ("torch.nn:Nonesuch", "no callable 'Nonesuch'"),
        ("torch.nn:Linear", "called without arguments"),
        ("builtins:dict", "returned dict"),
        ("gone.py:net", "no file gone.py"),
    ],
)
def test_factories_that_do_not_work_are_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        load_factory_network(spec)
