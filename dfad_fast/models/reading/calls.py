"""Observes calls of activation functions, convolutions and linear layers as they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

# Sigmoids do not count: they gate, and their input's sign is not a neuron's on/off state.
_ACTIVATIONS = frozenset(
    {
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "leaky_relu_",
        "prelu",
        "rrelu",
        "elu",
        "elu_",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "hardtanh",
        "tanh",
        "tanh_",
    }
)
_PRODUCTS = frozenset({"conv1d", "conv2d", "conv3d", "linear"})


class ActivationInputs(TorchFunctionMode):
    """Passes the input of every called activation function to ``see``, before the function runs."""

    def __init__(self, see: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _ACTIVATIONS:
            x = args[0] if args else kwargs["input"]
            inplace = name.endswith("_") or kwargs.get("inplace") or any(arg is True for arg in args[1:])
            # An in-place activation would overwrite the recorded input.
            self._see(x.clone() if inplace else x)
        return func(*args, **kwargs)


class Products(TorchFunctionMode):
    """Passes name, input and result of every convolution and linear layer to ``see``."""

    def __init__(self, see: Callable[[str, Tensor, Tensor], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in _PRODUCTS:
            self._see(name, args[0] if args else (kwargs or {})["input"], result)
        return result
