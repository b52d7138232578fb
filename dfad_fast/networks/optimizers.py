"""A network's optimizer, with the loss scaling that float16 needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from dfad_fast.distributed import differentiable, processes
from dfad_fast.wording import counted

_OWN = ("lr", "fused", "foreach", "capturable")
_NOT_THE_OPTIMIZERS = ("beside", "scaler")  # of the keys of a state
_around_backward: list[Callable[[Tensor], AbstractContextManager[None]]] = []


@contextmanager
def around_backward(enter: Callable[[Tensor], AbstractContextManager[None]]) -> Iterator[None]:
    """Inside the block, every step's backward pass runs within ``enter(loss)``."""
    _around_backward.append(enter)
    try:
        yield
    finally:
        _around_backward.remove(enter)


def _backward(loss: Tensor) -> None:
    with ExitStack() as stack:
        for enter in _around_backward:
            stack.enter_context(enter(loss))
        loss.backward()


class ScaledOptimizer:
    """An optimizer and, for float16, a loss scaler that keeps small gradients from vanishing.

    If the scaled gradients overflow, it skips the step and halves the scale, as torch.amp.GradScaler does. It scales
    gradients whose norm exceeds ``clip_norm`` down to that norm. The optimizers ``beside`` it step down the gradient of
    the same losses, at constant rates and without clipping; one that overflows is skipped alone.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        scaled: bool,
        clip_norm: float | None = None,
        beside: Sequence[torch.optim.Optimizer] = (),
    ) -> None:
        self.optimizer = optimizer
        self._beside = beside
        self._clip_norm = clip_norm
        self._each_own = False
        self._scaler = torch.amp.GradScaler(device.type) if scaled else None

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate, in place where a CUDA graph reads it."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def around(self, optimizer: torch.optim.Optimizer, each_own: bool = False) -> ScaledOptimizer:
        """A wrapper of another optimizer that shares this scaler and clipping.

        ``each_own``: every process has its own parameters; since all share one scale, a step that overflows in one
        process is skipped in all.
        """
        other = copy.copy(self)
        other.optimizer = optimizer
        other._beside = ()
        other._each_own = each_own
        return other

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for optimizer in (*self._beside, self.optimizer):
            optimizer.zero_grad()

    def descend(self, loss: Tensor, look: Callable[[], None] | None = None) -> None:
        """One step down the gradient of ``loss``. Calls ``look`` once the unscaled gradients are computed."""
        self.zero_grad()
        if self._scaler is None:
            _backward(loss)
            self._finish_gradients(look)
            for optimizer in (*self._beside, self.optimizer):
                optimizer.step()
            return
        _backward(self._scaler.scale(loss))
        if self._each_own and processes.count() > 1:
            self._spread_overflow()
        if self._clip_norm is not None or look is not None:
            self._scaler.unscale_(self.optimizer)
            self._finish_gradients(look)
        for optimizer in (*self._beside, self.optimizer):
            self._scaler.step(optimizer)
        self._scaler.update()

    @property
    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _spread_overflow(self) -> None:
        """Gradients become infinite in all processes where they are not finite in one. Waits for no device."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        own = torch.stack([~gradient.isfinite().all() for gradient in gradients]).any()
        of_any = differentiable.mean(own.float()) > 0
        for gradient in gradients:
            gradient.masked_fill_(of_any, float("inf"))

    def _finish_gradients(self, look: Callable[[], None] | None) -> None:
        if look is not None:
            look()
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, with those of the optimizers beside it and of the scaler, if there are any."""
        state = self.optimizer.state_dict()
        if self._beside:
            state["beside"] = [optimizer.state_dict() for optimizer in self._beside]
        return state if self._scaler is None else {**state, "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the state of another number of optimizers."""
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])
        states = state.get("beside", ())
        if len(states) != len(self._beside):
            raise ValueError(
                f"it has {counted(len(states), 'optimizer')} of terms with a learning rate of their own, and this run "
                f"has {len(self._beside)}"
            )
        for optimizer, beside in zip(self._beside, states, strict=True):
            _load(optimizer, beside)
        _load(self.optimizer, {key: value for key, value in state.items() if key not in _NOT_THE_OPTIMIZERS})


def _load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    # These belong to this run's device and graph, not to the state; each step sets the rates that change.
    own = [{key: group.get(key) for key in _OWN} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, kept in zip(optimizer.param_groups, own, strict=True):
        group.update(kept)
