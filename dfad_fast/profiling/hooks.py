"""Hooks on a trainer's steps that record which part of the step runs and how the networks are called."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from dfad_fast.models.reading.hooks import first_input
from dfad_fast.networks.optimizers import around_backward
from dfad_fast.private_torch import next_sequence_number, sequence_number
from dfad_fast.profiling.timeline import Clock, Timeline

if TYPE_CHECKING:
    from dfad_fast.training.trainer import DFADTrainer

STUDENT, GENERATOR = "student", "generator"
PHASES = (STUDENT, GENERATOR)
NETWORKS = ("generator", "teacher", "student", "connectors")
LOSSES, OPTIMIZERS = "losses", "optimizers"


class Call(NamedTuple):
    """A kind of call of a module: the phase, the shape of an image, and the gradients that backward computes."""

    phase: str
    network: str
    module: nn.Module
    shape: tuple[int, ...]
    to_weights: bool
    to_inputs: bool


class StepHooks:
    """Separates the parts and phases of a trainer's steps while ``attached``.

    Backward is separated by the autograd graph: a node belongs to the network that ran when the node was created, or
    otherwise to the losses. A phase ends with the step of its network's optimizer. Code that runs no hooks, such as a
    replayed CUDA graph, counts as overhead.

    Attributes:
        timeline: seconds by phase and part.
        images: number of images that went through each network, by kind of call.
    """

    # torch.profiler is too slow: reading its events took 0.4 s for an iteration of 0.14 s, and 0.9 s for one of 1.2 s.

    def __init__(self, trainer: DFADTrainer, clock: Clock) -> None:
        self.timeline = Timeline(clock)
        self.images: Counter[Call] = Counter()
        self._trainer = trainer
        self._unfinished: Counter[Call] = Counter()
        networks = trainer.networks
        self._generator_parameters = {id(p) for p in networks.generator.parameters()}
        self._apart = {id(p) for module, _ in networks.trained_apart for p in module.parameters()}
        self._made: list[tuple[int, str]] = [(0, LOSSES)]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the block the trainer's networks and steps are timed."""
        method = self._trainer.distiller.method
        with ExitStack() as stack:
            for network, modules in _called(self._trainer).items():
                for module in modules:
                    for hook in self._hook(network, module):
                        stack.callback(hook.remove)
            for kind in {type(row.term) for row in (*method.student, *method.generator)}:
                for name in ("__call__", "prepare", "virtual_images"):
                    stack.enter_context(_replaced(kind, name, self._within_losses))
            stack.enter_context(around_backward(self._by_node))
            stack.callback(register_optimizer_step_pre_hook(self._before_update).remove)
            stack.callback(register_optimizer_step_post_hook(self._after_update).remove)
            self.timeline.start()
            yield
            self.timeline.stop()

    def _hook(self, name: str, module: nn.Module) -> list[Any]:
        def enter(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self.timeline.enter(f"{name} forward")
            self._made.append((next_sequence_number(), f"{name} backward"))
            given = first_input(inputs, keywords)
            assert given is not None
            batch, *shape = given.shape
            graph = torch.is_grad_enabled()
            to_weights = graph and any(p.requires_grad for p in module.parameters())
            to_inputs = graph and given.requires_grad
            self._unfinished[Call("", name, module, tuple(shape), to_weights, to_inputs)] += batch

        def leave(*_: Any) -> None:
            self._made.append((next_sequence_number(), LOSSES))
            self.timeline.leave()

        return [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave, always_call=True),
        ]

    def _within_losses(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.timeline.enter(LOSSES)
            try:
                return call(*args, **kwargs)
            finally:
                self.timeline.leave()

        return wrapped

    @contextmanager
    def _by_node(self, loss: Tensor) -> Iterator[None]:
        self.timeline.enter(None)
        for node in _nodes(loss):
            node.register_prehook(self._turning_to(self._part_of(node)))
        self.timeline.turn_to(LOSSES)
        try:
            yield
        finally:
            self.timeline.leave()

    def _turning_to(self, part: str) -> Callable[..., None]:
        return lambda _: self.timeline.turn_to(part)

    def _part_of(self, node: Any) -> str:
        position = bisect(self._made, sequence_number(node), key=lambda made: made[0])
        return self._made[position - 1][1]

    def _before_update(self, *_: Any) -> None:
        self.timeline.enter(OPTIMIZERS)

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        self.timeline.leave()
        updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if updated & self._apart:  # the student's optimizer follows
            return
        phase = GENERATOR if updated & self._generator_parameters else STUDENT
        self.timeline.end_phase(phase)
        for call, images in self._unfinished.items():
            self.images[call._replace(phase=phase)] += images
        self._unfinished.clear()


def _called(trainer: DFADTrainer) -> dict[str, list[nn.Module]]:
    """The modules that a step calls, by the part to which their time counts."""
    networks, distiller = trainer.networks, trainer.distiller
    teachers = dict.fromkeys((networks.teacher, distiller.prober.quick_teacher))
    return {
        "generator": [networks.generator, *distiller.source.networks],
        "teacher": list(teachers),
        "student": [networks.student],
        "connectors": [
            *networks.connectors,
            *(part for made in networks.term_modules for part in made.children()),
        ],
    }


def _nodes(loss: Tensor) -> Iterator[Any]:
    """The nodes of the graph of ``loss``, except those that only accumulate a parameter's gradient."""
    waiting: list[Any] = [loss.grad_fn] if loss.grad_fn is not None else []
    found = set(waiting)
    while waiting:
        node = waiting.pop()
        if not hasattr(node, "variable"):
            yield node
        for following, _ in node.next_functions:
            if following is not None and following not in found:
                found.add(following)
                waiting.append(following)


@contextmanager
def _replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replaces ``owner.name`` by ``make(owner.name)`` inside the block."""
    inherited = name not in vars(owner)
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
