import collections
import copy
import gzip
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models import create_network, load_factory_network, load_weights


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


def blocks():
    """Names with dots, batch norm, and lived-in values."""
    torch.manual_seed(1)
    made = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(1, 3, 3), norm=nn.BatchNorm2d(3), head=nn.Sequential(nn.Linear(3, 2)))
    )
    for value in made.state_dict().values():
        value.copy_(torch.rand(value.shape) * 9)
    return made


def fresh(network):
    """The same network with other values, and whether it got those of ``network``."""
    other = copy.deepcopy(network)
    for value in other.state_dict().values():
        value.zero_()

    def has_them(all_but=()):
        theirs = network.state_dict()
        return all(
            torch.equal(value, theirs[name])
            for name, value in other.state_dict().items()
            if not name.endswith(tuple(all_but))
        )

    return other, has_them


def renamed(state, prefix="", dropped=""):
    return {prefix + name.removeprefix(dropped): value for name, value in state.items()}


def averaged(network):
    return torch.optim.swa_utils.AveragedModel(network).state_dict()


FILES = {
    "prefixes": lambda s, _: renamed(s, "_orig_mod.module.model.net."),
    "wrapped": lambda s, _: {
        "epoch": 1,
        "model_state_dict": renamed(s, "module."),
        "optimizer": {"state": {}},
    },
    "deep": lambda s, _: {"a": {"b": [3, {"c": s}]}},
    "parts": lambda s, _: {
        "conv": {"weight": s["conv.weight"], "bias": s["conv.bias"]},
        **{k: v for k, v in s.items() if not k.startswith("conv.")},
    },
    "wrapper inside": lambda s, _: {
        k.replace("conv.", "conv.module.").replace("head.", "head._orig_mod."): v for k, v in s.items()
    },
    "lightning": lambda s, _: {"state_dict": {**renamed(s, "model."), "loss.weight": torch.ones(2)}},
    "beside others": lambda s, _: {**s, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "epoch": 3},
    "no counters": lambda s, _: {k: v for k, v in s.items() if "tracked" not in k},
    "thop": lambda s, _: {**s, "total_ops": torch.ones(1), "conv.total_params": torch.ones(1)},
    "averaged": lambda _, network: averaged(network),
    "equal twice": lambda s, _: {"model": s, "ema": {k: v.clone() for k, v in s.items()}},
    "other shapes beside": lambda s, _: {
        "teacher": {k: v[:1] for k, v in s.items() if v.dim()},
        "student": s,
    },
    "numbers of numpy": lambda s, _: {"best": np.float64(3), "args": Namespace(lr=1), "model": s},
    "old format": lambda s, _: {"best": np.float64(3), "args": Namespace(lr=1), "model": s},
}


@pytest.mark.parametrize("kind", FILES)
def test_a_state_is_found_wherever_it_lies_and_whatever_it_is_called(tmp_path, kind):
    network = blocks()
    other, has_them = fresh(network)
    content = FILES[kind](network.state_dict(), network)
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=kind != "old format")
    load_weights(other, tmp_path / "w.pt", "teacher")
    assert has_them(["num_batches_tracked"] if kind == "no counters" else [])


@pytest.mark.parametrize(
    "wrap", [lambda n: nn.Sequential(OrderedDict(model=n)), nn.DataParallel, torch.compile]
)
def test_a_prefix_that_is_the_networks_own_is_kept_or_put_before(tmp_path, wrap):
    network = wrap(blocks())
    for number, state in enumerate(
        (network.state_dict(), blocks().state_dict(), renamed(network.state_dict(), "net."))
    ):
        other, has_them = fresh(network)
        torch.save(state, tmp_path / f"{number}.pt")
        load_weights(other, tmp_path / f"{number}.pt")
        assert has_them()


def test_of_several_states_that_fit_one_is_named(tmp_path):
    network = blocks()
    state, others = network.state_dict(), {k: v + 1 for k, v in network.state_dict().items()}
    file = tmp_path / "w.pt"
    torch.save({"state": {"model": others, "ema": renamed(state, "module.")}, "epoch": 3}, file)
    other, has_them = fresh(network)
    with pytest.raises(
        UsageError, match=r"2 different states .*'state.model' and 'state.ema'.*w.pt::state.ema"
    ):
        load_weights(other, file, "teacher")
    load_weights(other, f"{file}::state.ema", "teacher")
    assert has_them()
    for key in ("em", "epoch", "state.ema.nowhere"):
        with pytest.raises(UsageError, match=rf"no tensors under '{key}': it holds 'state', 'epoch'"):
            load_weights(other, f"{file}::{key}")
    torch.save({**renamed(others, "teacher."), **renamed(state, "student.")}, file)
    with pytest.raises(UsageError, match="'teacher' and 'student'"):
        load_weights(other, file)
    load_weights(*(fresh(network)[:1]), f"{file}::student")
    torch.save({**state, "ema": others}, file)
    load_weights(other, f"{file}::", "the file's own")
    assert has_them()


@pytest.mark.parametrize("old_file", [False, True])
@pytest.mark.parametrize("old_network", [False, True])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weight_norm_is_read_by_its_older_and_its_newer_names(tmp_path, old_file, old_network):
    def made(old):
        norm = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
        return nn.Sequential(norm(nn.Linear(2, 3)))

    source, network = made(old_file), made(old_network)
    torch.save(renamed(source.state_dict(), "module."), tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    x = torch.randn(4, 2)
    torch.testing.assert_close(network(x), source(x))


class Renaming(nn.Linear):
    """Reads what an older version of it saved."""

    def _load_from_state_dict(self, state, prefix, *rest):
        if f"{prefix}kernel" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")
        super()._load_from_state_dict(state, prefix, *rest)


def test_a_network_renames_what_its_older_versions_saved(tmp_path):
    network = nn.Sequential(Renaming(2, 2))
    state = {"0.kernel": torch.ones(2, 2), "0.bias": torch.ones(2)}
    torch.save({"model": renamed(state, "module.")}, tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    assert network[0].weight.sum() == 4
    torch.save({**state, "0.bias": torch.zeros(2), "0.more": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"unexpected: 0\.kernel, 0\.more"):
        load_weights(network, tmp_path / "w.pt")
    assert network[0].bias.sum() == 2


class Counting(nn.Linear):
    def get_extra_state(self):
        return {"n": 3}

    def set_extra_state(self, state):
        self.seen = state


def test_extra_state_is_read(tmp_path):
    network = nn.Sequential(Counting(2, 2))
    torch.save({"model": renamed(network.state_dict(), "module.")}, tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    assert network[0].seen == {"n": 3}


def tied():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    return network


def test_a_shared_tensor_that_safetensors_left_out_is_found(tmp_path):
    save_model(tied(), tmp_path / "w.safetensors")
    for network in (tied(), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))):
        load_weights(network, tmp_path / "w.safetensors")
        assert torch.equal(network[0].weight, network[1].weight)
    state = tied().state_dict()
    del state["1.weight"]
    save_file(state, tmp_path / "bare.safetensors")
    load_weights(network := tied(), tmp_path / "bare.safetensors")
    assert torch.equal(network[1].weight, state["0.weight"])
    with pytest.raises(UsageError, match=r"missing: 1\.weight"):
        load_weights(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path / "bare.safetensors")


def test_two_values_of_a_shared_tensor_are_refused(tmp_path):
    apart = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    torch.save(apart.state_dict(), tmp_path / "w.pt")
    before = (network := tied())[0].weight.clone()
    with pytest.raises(
        UsageError, match=r"0\.weight and 1\.weight differ in the file, but are one tensor in the net"
    ):
        load_weights(network, tmp_path / "w.pt")
    assert torch.equal(network[0].weight, before)
    apart[1].weight.data.copy_(apart[0].weight)
    torch.save(apart.state_dict(), tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    assert torch.equal(network[1].weight, apart[0].weight)


def test_two_values_of_a_shared_tensor_may_differ_in_precision_or_be_nan(tmp_path):
    state = tied().state_dict()
    state["1.weight"] = state["1.weight"].half()
    torch.save(state, tmp_path / "w.pt")
    load_weights(tied(), tmp_path / "w.pt")
    state["1.weight"] = state["0.weight"] = torch.full_like(state["0.weight"], torch.nan)
    torch.save({**state, "1.weight": state["1.weight"].clone()}, tmp_path / "w.pt")
    load_weights(network := tied(), tmp_path / "w.pt")
    assert network[0].weight.isnan().all()


def test_names_in_bytes_are_names(tmp_path, network):
    state = {name.encode(): value + 1 for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    assert all(torch.equal(value, state[name.encode()]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_other_precisions_are_brought_to_the_networks(tmp_path, network, dtype, suffix):
    state = {name: value.to(dtype) for name, value in network.state_dict().items()}
    path = tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    other, _ = fresh(network)
    load_weights(other, path)
    assert all(value.dtype == torch.float32 for value in other.state_dict().values())
    assert all(torch.equal(value.to(dtype), state[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda w: w.to(torch.int8), "int8, like quantized weights"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), r"a quantized tensor \(qint8\)"),
        (lambda w: w.to(torch.complex64), r"complex \(complex64\)"),
        (lambda w: w.to_sparse(), "a sparse_coo tensor"),
        (lambda w: w.to("meta"), "a meta tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize.*")
def test_tensors_that_are_no_dense_numbers_are_refused_by_name(tmp_path, network, change, kind):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    torch.save({"model": {**state, "1.weight": change(state["1.weight"])}}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=rf"w.pt: 1.weight is {kind}.*dense float"):
        load_weights(network, tmp_path / "w.pt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_names_that_differ_by_a_prefix_say_only_that(tmp_path):
    network = blocks()
    state = network.state_dict()
    odd = {("encoder." if name.startswith(("conv", "norm")) else "") + name: v for name, v in state.items()}
    torch.save(odd, tmp_path / "w.pt")
    with pytest.raises(UsageError) as caught:
        load_weights(network, tmp_path / "w.pt", "teacher")
    message = str(caught.value)
    assert "in the file they begin with 'encoder.', in the teacher they have no prefix" in message
    assert "missing" not in message
    assert "unexpected" not in message


def test_what_does_not_fit_comes_with_advice(tmp_path):
    moments = [{"exp_avg": torch.zeros(3), "step": torch.zeros(())} for _ in range(9)]
    state = create_network("resnet20-a", (1, 8, 8), 10).state_dict()
    torch.save({"state_dict": state, "optimizer": {"state": moments}}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="its names are those of resnet20-a: choose that one as the teacher"):
        load_weights(create_network("resnet20", (1, 8, 8), 10), tmp_path / "w.pt", "teacher")
    with pytest.raises(UsageError, match=r"wrong shape: .*linear.bias \(10,\) instead of \(4,\): .*classes"):
        load_weights(create_network("resnet20-a", (1, 8, 8), 4), tmp_path / "w.pt")


def test_a_part_of_a_larger_network_does_not_fit(tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"unexpected: 1\.bias, 1\.weight"):
        load_weights(nn.Sequential(nn.Linear(2, 2)), tmp_path / "w.pt")


def test_a_whole_network_in_a_file_is_refused_by_its_class(tmp_path, network):
    torch.save(network, tmp_path / "w.pt")
    with pytest.raises(
        UsageError, match=r"torch.nn.modules.container.Sequential.*could run code.*state_dict"
    ):
        load_weights(network, tmp_path / "w.pt")
    torch.save({"model": network, "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"w.pt holds 'model' \(a pickled torch.*\), 'epoch', expected"):
        load_weights(network, tmp_path / "w.pt")
    torch.save({"model": network, "optimizer": {"state": [{"m": torch.ones(2)}]}}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"its 'model' is a pickled torch.*Sequential.*model.state_dict\(\)"):
        load_weights(network, tmp_path / "w.pt")


def test_a_quantized_networks_weights_and_programs_are_told(tmp_path, network):
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(network), {nn.Linear})
    torch.save(quantized.state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"0\._packed_params\S* is a quantized tensor \(qint8\)"):
        load_weights(network, tmp_path / "w.pt")
    torch.jit.save(torch.jit.script(network), tmp_path / "s.pt")
    torch.export.save(torch.export.export(network, (torch.ones(1, 2),)), tmp_path / "e.pt2")
    for name in ("s.pt", "e.pt2"):
        with pytest.raises(
            UsageError, match=rf"is a program, not a file of weights: pass it as --teacher \S*{name}"
        ):
            load_weights(network, tmp_path / name)


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
    (tmp_path / "neighbor.py").write_text("WIDTH = 5\n")
    (tmp_path / "mine.py").write_text(
        "from neighbor import WIDTH\nfrom torch import nn\ndef net():\n    return nn.Linear(WIDTH, 2)\n"
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


class EasyDict(dict):
    """A dictionary whose entries are attributes, as many settings are kept."""


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "beside", [EasyDict(lr=0.1, milestones=[1, 2]), collections.deque([1.0, 2.0])], ids=["mapping", "list"]
)
def test_objects_that_are_filled_like_dictionaries_and_lists_do_not_matter(beside, legacy, tmp_path):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    content = {"state_dict": source.state_dict(), "beside": beside}
    torch.save(content, tmp_path / "file.pt", _use_new_zipfile_serialization=not legacy)
    load_weights(target, tmp_path / "file.pt")
    assert torch.equal(target.weight, source.weight)


OTHER_FILES = {
    "empty": (b"", "is empty: copy or download it again"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run git lfs pull"),
    "web page": (b"<!DOCTYPE html><html>not found</html>", "is a web page, not the weights"),
    "gzip": (gzip.compress(b"weights"), "is compressed by gzip: decompress it first"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), r"is an HDF5 file \(as saved by Keras\)"),
    "JSON": (b'{"weight_map": {}}', "is a JSON file, not the weights"),
    "text": (
        "epoch: 7\nloss: 0,5 Größe".encode(),
        "is a text file that begins with 'epoch: 7', not the weights",
    ),
    "text that begins with empty lines": (b"\n\n# notes\n", "that begins with '# notes', not the weights"),
    "three bytes": (b"\xff\xff\xff", "could not be read|is damaged"),
    "half an archive": (b"PK\x03\x04" + bytes(64), "is cut short or damaged: copy or download it again"),
    "arrays": (lambda file: np.savez(file, weight=np.zeros(3)), "holds NumPy arrays: save them as tensors"),
    "archive": (
        lambda file: zipfile.ZipFile(file, "w").writestr("net/weights.pth", b""),
        r"is an archive of other files \(net/weights\.pth\): unpack it first",
    ),
}


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_of_another_kind_is_told(kind, name, tmp_path, network):
    content, told = OTHER_FILES[kind]
    if callable(content):
        with (tmp_path / name).open("wb") as file:
            content(file)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=told):
        load_weights(network, tmp_path / name)


def test_a_damaged_archive_is_told(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    content = bytearray((tmp_path / "weights.pt").read_bytes())
    start = content.rindex(b"PK\x01\x02")  # of the last entry in the archive's directory
    content[start : start + 4] = b"none"
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(
        UsageError, match=r"weights\.pt (could not be read as weights|is cut short or damaged)"
    ):
        load_weights(network, tmp_path / "weights.pt")


def test_a_folder_is_no_file_of_weights(tmp_path, network):
    with pytest.raises(UsageError, match="is a folder: name the file of weights in it"):
        load_weights(network, tmp_path)


def test_weights_are_read_whatever_the_files_suffix(tmp_path, network):
    save_file(network.state_dict(), tmp_path / "renamed.pt")
    torch.save(network.state_dict(), tmp_path / "renamed.safetensors")
    for name in ("renamed.pt", "renamed.safetensors"):
        target = copy.deepcopy(network)
        torch.nn.init.zeros_(next(target.parameters()))
        load_weights(target, tmp_path / name)
        assert torch.equal(next(target.parameters()), next(network.parameters()))


def test_a_shard_is_told(tmp_path, network):
    name, value = next(iter(network.state_dict().items()))
    save_file({name: value}, tmp_path / "model-00001-of-00003.safetensors")
    with pytest.raises(UsageError, match="the file is one of 3 shards"):
        load_weights(network, tmp_path / "model-00001-of-00003.safetensors")


def test_a_network_without_values_takes_no_weights(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="on the meta device and cannot hold weights"):
        load_weights(copy.deepcopy(network).to("meta"), tmp_path / "weights.pt", "teacher")


def test_a_state_dictionary_is_no_path(network):
    with pytest.raises(UsageError, match="must be the path of a file, got OrderedDict"):
        load_weights(network, network.state_dict())
