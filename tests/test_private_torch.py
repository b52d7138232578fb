"""What torch's private parts are relied on for. A version of torch that changes one of them fails here by its name."""

import collections
import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel
from torch.utils.checkpoint import checkpoint

from dfad_fast import private_torch


def test_batch_norm_layers_have_one_base():
    layers = [
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2),
        nn.BatchNorm3d(2),
        nn.SyncBatchNorm(2),
        nn.LazyBatchNorm2d(),
    ]
    assert all(map(private_torch.is_batch_norm, layers))
    assert not any(
        map(private_torch.is_batch_norm, [nn.InstanceNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2)])
    )


def test_a_convolution_whose_arithmetic_was_replaced_is_told_from_others():
    for method in ("forward", "_conv_forward"):
        layer = nn.Conv2d(1, 1, 1)
        assert not private_torch.has_own_convolution(layer)
        setattr(layer, method, lambda *_: torch.tensor(3.0))
        assert layer(torch.ones(1, 1, 2, 2)) == 3
        assert private_torch.has_own_convolution(layer)


@pytest.mark.parametrize(
    "register",
    [
        nn.Module.register_forward_pre_hook,
        nn.Module.register_forward_hook,
        nn.Module.register_full_backward_pre_hook,
        nn.Module.register_full_backward_hook,
    ],
)
def test_a_hook_of_any_kind_is_seen_until_it_is_removed(register):
    module = nn.ReLU()
    assert not private_torch.has_hooks(module)
    hook = register(module, lambda *_: None)
    assert private_torch.has_hooks(module)
    hook.remove()
    assert not private_torch.has_hooks(module)


@pytest.mark.parametrize(
    "register",
    [
        nn.modules.module.register_module_forward_pre_hook,
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_full_backward_pre_hook,
        nn.modules.module.register_module_full_backward_hook,
    ],
)
def test_a_hook_on_all_modules_is_seen_until_it_is_removed(register):
    assert not private_torch.has_global_hooks()
    hook = register(lambda *_: None)
    assert private_torch.has_global_hooks()
    hook.remove()
    assert not private_torch.has_global_hooks()


def test_checkpointing_is_seen_in_both_forwards():
    assert not private_torch.saves_by_hooks()
    seen = []

    def watched(x):
        seen.append(private_torch.saves_by_hooks())
        return x.exp()

    checkpoint(watched, torch.ones(2, requires_grad=True), use_reentrant=False).sum().backward()
    assert seen == [True, True]
    assert not private_torch.saves_by_hooks()


def test_the_module_inside_a_compiled_one_is_found():
    module = nn.Linear(2, 2)
    assert private_torch.compiled_module(torch.compile(module, backend="eager")) is module
    assert private_torch.compiled_module(module) is None


def test_compiling_in_place_is_seen():
    module = nn.Linear(2, 2)
    assert not private_torch.is_compiled_in_place(module)
    module.compile(backend="eager")
    assert private_torch.is_compiled_in_place(module)


def test_wrappers_put_the_known_names_into_those_of_weights():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import _CHECKPOINT_WRAPPED_MODULE
    from torch.distributed.fsdp._common_utils import FSDP_WRAPPED_MODULE

    layer = nn.Linear(2, 2)
    compiled = next(iter(torch.compile(layer, backend="eager").state_dict())).split(".")[0]
    parallel = next(iter(DataParallel(layer).state_dict())).split(".")[0]
    assert {
        compiled,
        parallel,
        FSDP_WRAPPED_MODULE,
        _CHECKPOINT_WRAPPED_MODULE,
    } == private_torch.WRAPPER_NAMES


class Renamed(nn.Linear):
    """Knows its version 1, in which the weight had another name."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[f"{prefix}weight"] = state.pop(f"{prefix}old")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_a_state_dict_says_the_versions_of_its_modules_and_loading_reads_them():
    network = nn.Sequential(Renamed(2, 2, bias=False))
    state = network.state_dict()
    versions = private_torch.module_versions(state)
    assert versions["0"] == {"version": 2}
    assert private_torch.module_versions({}) == {}
    state["0.old"] = state.pop("0.weight")
    private_torch.set_module_versions(state, {**versions, "0": {"version": 1}})
    network.load_state_dict(state)


class Listlike(collections.deque):
    pass


class Dictlike(dict):
    pass


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("value", "filled_as"),
    [
        (Listlike([1]), "list"),
        (Listlike([1, 2]), "list"),
        (Dictlike(a=1), "mapping"),
        (Dictlike(a=1, b=2), "mapping"),
    ],
)
def test_loading_says_what_it_does_not_know_and_what_it_does_not_fill(value, filled_as, legacy, tmp_path):
    torch.save({"value": value}, tmp_path / "file.pt", _use_new_zipfile_serialization=not legacy)
    kind = type(value)
    with pytest.raises(pickle.UnpicklingError) as unknown:
        torch.load(tmp_path / "file.pt", weights_only=True)
    assert private_torch.refused_global(unknown.value) == f"{kind.__module__}.{kind.__name__}"
    assert private_torch.refused_container(unknown.value) is None
    with torch.serialization.safe_globals([kind]), pytest.raises(pickle.UnpicklingError) as unfilled:
        torch.load(tmp_path / "file.pt", weights_only=True)
    assert private_torch.refused_container(unfilled.value) == (kind.__name__, filled_as)
    assert private_torch.refused_global(unfilled.value) is None


def test_gamma_variables_come_from_the_generator_that_is_given():
    concentration = torch.full((20000,), 3.0, dtype=torch.float64)
    before = torch.get_rng_state()
    first, again = (
        private_torch.standard_gamma(concentration, torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.mean().item() == pytest.approx(3.0, rel=0.05)
    assert first.var().item() == pytest.approx(3.0, rel=0.1)


def test_batch_statistics_are_mean_and_biased_variance_of_each_channel():
    x = torch.randn(5, 3, 4, 2) * 2 + 1
    mean, variance = private_torch.batch_statistics(x)
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(variance, x.var((0, 2, 3), correction=0))


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad])
def test_a_function_transform_is_seen_from_inside(transform):
    seen = []

    def look(x):
        seen.append(private_torch.inside_function_transform())
        return x * 2

    transform(look)(torch.ones(3) if transform is torch.func.vmap else torch.tensor(1.0))
    assert seen == [True]
    assert not private_torch.inside_function_transform()


def test_a_dual_level_and_a_dispatch_mode_are_seen_from_inside():
    class Passes(private_torch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    assert not private_torch.inside_dual_level()
    assert not private_torch.inside_dispatch_mode()
    with torch.autograd.forward_ad.dual_level():
        assert private_torch.inside_dual_level()
    with Passes():
        assert private_torch.inside_dispatch_mode()


def test_a_jit_trace_is_seen_from_inside():
    seen = []
    torch.jit.trace(
        lambda x: seen.append(private_torch.inside_jit_trace()) or x + 1, torch.ones(1), check_trace=False
    )
    assert seen == [True]
    assert not private_torch.inside_jit_trace()


def test_what_export_traces_with_is_known_by_its_class():
    kinds = set()

    class Looking(nn.Module):
        def forward(self, x):
            kinds.add(type(x))
            return x + 1

    torch.export.export(Looking(), (torch.ones(2),), strict=False)
    assert kinds
    traced = kinds - {torch.Tensor}
    assert all(map(private_torch.is_traced_kind, traced)), traced
    from torch._subclasses.fake_tensor import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor

    assert private_torch.is_traced_kind(FakeTensor)
    assert private_torch.is_traced_kind(FunctionalTensor)
    assert not private_torch.is_traced_kind(nn.Parameter)


def test_nodes_are_numbered_in_the_order_they_are_made():
    x = torch.ones(2, requires_grad=True)
    first = x * 2
    between = private_torch.next_sequence_number()
    second = first + 1
    numbers = [private_torch.sequence_number(tensor.grad_fn) for tensor in (first, second)]
    assert numbers[0] < between <= numbers[1]
    assert private_torch.next_sequence_number() > numbers[1]


def test_no_other_module_uses_private_names_of_torch():
    package = Path(private_torch.__file__).parent
    private = re.compile(r"\btorch(\.\w+)*\._[a-z]|\bfrom torch[\w.]* import .*\b_|\bnn\.(\w+\.)*_[A-Za-z]")
    found = [
        f"{path.relative_to(package.parent)}: {line.strip()}"
        for path in (*package.rglob("*.py"), *(package.parent / "kernels").glob("*.py"))
        if path != Path(private_torch.__file__)
        for line in path.read_text().splitlines()
        if private.search(line) and not line.lstrip().startswith("#")
    ]
    assert found == []
    assert private.search(Path(private_torch.__file__).read_text())


def test_a_dispatch_mode_sees_the_operations_inside_of_a_layer():
    seen = []

    class Seeing(private_torch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((func.overloadpacket.__name__, any(arg is x for arg in args)))
            return func(*args, **(kwargs or {}))

    layer, x = nn.Conv2d(1, 1, 1), torch.ones(1, 1, 2, 2)
    with torch.no_grad(), Seeing():
        layer(x)
    assert ("convolution", True) in seen
