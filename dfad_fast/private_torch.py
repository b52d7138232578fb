"""The private parts of torch that this package uses, each with what the public ones lack.

No other module uses a private name of torch. ``tests/test_private_torch.py`` fails under a version of torch that
changes one of these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Sees every operation while it runs, those inside of C++ too, which TorchFunctionMode does not. torch documents it, but
# its module has no public name.
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

WRAPPER_NAMES = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What wrappers put into the names of weights: data parallel training, torch.compile, FSDP, activation checkpoints.

torch says none of them but the first; each would need the wrapper's own code to be imported.
"""


def is_batch_norm(module: nn.Module) -> bool:
    """Whether ``module`` is a batch norm layer of torch's, or of a class derived from theirs.

    Their common base, from which others derive synchronized ones, has no public name.
    """
    return isinstance(module, _BatchNorm)


def has_own_convolution(layer: nn.Module) -> bool:
    """Whether somebody replaced how this one convolution, and not its class, computes.

    Beside ``forward`` there is a method for the arithmetic alone, which has no public name.
    """
    return not {"forward", "_conv_forward"}.isdisjoint(vars(layer))


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook is registered on ``module``. torch has no question for that."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )


def has_global_hooks() -> bool:
    """Whether there is a hook on all modules of the process. torch has no question for that."""
    everywhere = torch.nn.modules.module
    return bool(
        everywhere._global_forward_pre_hooks
        or everywhere._global_forward_hooks
        or everywhere._global_backward_pre_hooks
        or everywhere._global_backward_hooks
    )


def remove_hooks(network: nn.Module) -> None:
    """Removes every hook from the modules of ``network``. torch removes one by the handle that registering it gave."""
    for module in network.modules():
        for hooks in (
            module._forward_pre_hooks,
            module._forward_hooks,
            module._backward_pre_hooks,
            module._backward_hooks,
        ):
            hooks.clear()


def saves_by_hooks() -> bool:
    """Whether hooks see what operations keep for backward, as while activations are checkpointed or computed again.

    torch.autograd.graph sets such hooks, and does not tell.
    """
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def compiled_module(network: nn.Module) -> nn.Module | None:
    """The module that ``torch.compile(module)`` made ``network`` of; None where it is no such result.

    The result's class is in a private package that takes a second to import, and it does not tell its module.
    """
    if type(network).__name__ == "OptimizedModule" and isinstance(network._orig_mod, nn.Module):
        return network._orig_mod
    return None


def is_compiled_in_place(network: nn.Module) -> bool:
    """Whether ``network.compile()`` was called. torch does not tell."""
    return network._compiled_call_impl is not None


def module_versions(state: object) -> Mapping[str, Any]:
    """What a state_dict notes of its modules, by their paths: the version of each one's format.

    load_state_dict reads it from an attribute that has no public name.
    """
    versions = getattr(state, "_metadata", None)
    return versions if isinstance(versions, Mapping) else {}


def set_module_versions(state: Any, versions: Mapping[str, Any]) -> None:
    """Notes in a state_dict what :func:`module_versions` reads."""
    state._metadata = versions


def refused_global(error: Exception) -> str | None:
    """The full name of the class or function that torch.load with weights_only does not know, if ``error`` says that.

    Only the error's text names it, and get_unsafe_globals_in_checkpoint cannot read files older than PyTorch 1.6.
    """
    found = re.search(r"Unsupported global: GLOBAL (\S+) was not", str(error))
    return found[1] if found else None


def refused_container(error: Exception) -> tuple[str, Literal["list", "mapping"]] | None:
    """The name of the class whose object torch.load with weights_only refuses to fill, and as what it is filled.

    torch fills objects of a few classes alone, and only the error's text names the one that it met.
    """
    found = re.search(r"Can only (SETITEM|append|extend)\w* .*\b(\w+)'", str(error))
    if not found:
        return None
    return found[2], "mapping" if found[1] == "SETITEM" else "list"


def standard_gamma(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws from the Gamma distributions with these concentrations and rate 1, in their shape.

    torch.distributions.Gamma takes no generator.
    """
    return torch._standard_gamma(concentration, generator=generator)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C] of ``x`` [B, C, ...], by the batch norm's own kernel.

    The public torch.var_mean takes up to twenty times as long.
    """
    return torch.batch_norm_update_stats(x, None, None, 0.0)


def inside_function_transform() -> bool:
    """Whether a transform of torch.func (vmap, grad, jvp) is at work. torch.func does not tell."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_traced_kind(kind: type) -> bool:
    """Whether tensors of this class are those that torch.compile and torch.export trace with.

    They have no public name.
    """
    return kind.__module__.startswith("torch._subclasses.")


def next_sequence_number() -> int:
    """The number that the next node of this thread's autograd graph gets.

    Public hooks of the graph tell when a node runs, not when it was made.
    """
    return torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]


def sequence_number(node: torch.autograd.graph.Node) -> int:
    """The number that ``node`` got when it was made, see :func:`next_sequence_number`."""
    return node._sequence_nr()
