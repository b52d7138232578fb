"""The private parts of torch that this package uses, each with the reason why the public API does not suffice.

No other module uses a private name of torch. ``tests/test_private_torch.py`` fails if a version of torch changes one of
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Sees every operation while it runs, including those inside C++, which TorchFunctionMode does not see. torch documents
# it, but its module has no public name.
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

WRAPPER_NAMES = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What wrappers add to the names of weights: data parallel training, torch.compile, FSDP, activation checkpoints.

torch documents only the first; for the others the wrapper's code would have to be imported.
"""


def is_batch_norm(module: nn.Module) -> bool:
    """Whether ``module`` is one of torch's batch norm layers or a subclass.

    Their common base class, which third-party synchronized layers derive from, has no public name.
    """
    return isinstance(module, _BatchNorm)


def has_own_convolution(layer: nn.Module) -> bool:
    """Whether the computation of this one convolution, not of its class, was replaced.

    Besides ``forward``, a method for the arithmetic alone can be replaced; it has no public name.
    """
    return not {"forward", "_conv_forward"}.isdisjoint(vars(layer))


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook is registered on ``module``. torch has no public query for this."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )


def has_global_hooks() -> bool:
    """Whether a global hook is registered for all modules. torch has no public query for this."""
    everywhere = torch.nn.modules.module
    return bool(
        everywhere._global_forward_pre_hooks
        or everywhere._global_forward_hooks
        or everywhere._global_backward_pre_hooks
        or everywhere._global_backward_hooks
    )


def remove_hooks(network: nn.Module) -> None:
    """Removes every hook from the modules of ``network``. torch can remove a hook only by its handle."""
    for module in network.modules():
        for hooks in (
            module._forward_pre_hooks,
            module._forward_hooks,
            module._backward_pre_hooks,
            module._backward_hooks,
        ):
            hooks.clear()


def saves_by_hooks() -> bool:
    """Whether hooks on saved tensors are active, as during activation checkpointing.

    torch.autograd.graph sets such hooks, but has no public query for them.
    """
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def compiled_module(network: nn.Module) -> nn.Module | None:
    """The module that ``torch.compile(module)`` wrapped into ``network``; None if ``network`` is no such wrapper.

    The wrapper's class is in a private package that takes a second to import, and does not expose its module.
    """
    if type(network).__name__ == "OptimizedModule" and isinstance(network._orig_mod, nn.Module):
        return network._orig_mod
    return None


def is_compiled_in_place(network: nn.Module) -> bool:
    """Whether ``network.compile()`` was called. torch has no public query for this."""
    return network._compiled_call_impl is not None


def module_versions(state: object) -> Mapping[str, Any]:
    """The format version of each module, by path, as recorded in a state_dict.

    load_state_dict reads it from an attribute that has no public name.
    """
    versions = getattr(state, "_metadata", None)
    return versions if isinstance(versions, Mapping) else {}


def set_module_versions(state: Any, versions: Mapping[str, Any]) -> None:
    """Records in a state_dict what :func:`module_versions` reads."""
    state._metadata = versions


def refused_global(error: Exception) -> str | None:
    """The full name of the class or function that torch.load with weights_only rejects, if ``error`` says so.

    Only the error's text names it, and get_unsafe_globals_in_checkpoint cannot read files older than PyTorch 1.6.
    """
    found = re.search(r"Unsupported global: GLOBAL (\S+) was not", str(error))
    return found[1] if found else None


def refused_container(error: Exception) -> tuple[str, Literal["list", "mapping"]] | None:
    """The class whose object torch.load with weights_only refuses to fill, and whether it is a list or a mapping.

    torch fills objects of only a few classes, and only the error's text names the rejected one.
    """
    found = re.search(r"Can only (SETITEM|append|extend)\w* .*\b(\w+)'", str(error))
    if not found:
        return None
    return found[2], "mapping" if found[1] == "SETITEM" else "list"


def standard_gamma(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws from Gamma distributions with these concentrations and rate 1, in the same shape.

    torch.distributions.Gamma takes no generator.
    """
    return torch._standard_gamma(concentration, generator=generator)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C] of ``x`` [B, C, ...], from the kernel of batch norm.

    The public torch.var_mean takes up to twenty times as long.
    """
    return torch.batch_norm_update_stats(x, None, None, 0.0)


def inside_function_transform() -> bool:
    """Whether a transform of torch.func (vmap, grad, jvp) is active. torch.func has no public query for this."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def inside_dispatch_mode() -> bool:
    """Whether a TorchDispatchMode is active, such as one that traces, under which values cannot be read."""
    return bool(torch._C._len_torch_dispatch_stack())


def inside_jit_trace() -> bool:
    """Whether torch.jit.trace is at work. torch.jit.is_tracing has no public type."""
    return torch._C._is_tracing()


def inside_dual_level() -> bool:
    """Whether forward-mode differentiation is active, which has no public query."""
    return torch.autograd.forward_ad._current_level >= 0


def is_traced_kind(kind: type) -> bool:
    """Whether torch.compile and torch.export trace with tensors of this class. These classes have no public name."""
    return kind.__module__.startswith("torch._subclasses.")


def next_sequence_number() -> int:
    """The number that the next node of this thread's autograd graph will get.

    The graph's public hooks report when a node runs, not when it was created.
    """
    return torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]


def sequence_number(node: torch.autograd.graph.Node) -> int:
    """The number that ``node`` got when it was created, see :func:`next_sequence_number`."""
    return node._sequence_nr()
