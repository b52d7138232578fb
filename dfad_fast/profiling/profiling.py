"""``dfad-fast profile``: the time that each part of a trainer's iterations takes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dfad_fast.engine.graph import ITERATIONS_UNTIL_CAPTURED
from dfad_fast.environment import device_name, versions
from dfad_fast.errors import UsageError
from dfad_fast.process import page_faults, peak_resident_bytes
from dfad_fast.profiling.flops import Ceiling, measure_ceilings, multiply_adds
from dfad_fast.profiling.hooks import LOSSES, NETWORKS, OPTIMIZERS, PHASES, StepHooks
from dfad_fast.profiling.timeline import OVERHEAD, Clock, clock_of
from dfad_fast.training.trainer import DFADTrainer
from dfad_fast.wording import counted

_log = logging.getLogger(__name__)

# Iterations without and with hooks alternate, so that other load on the machine affects both.
_ROUNDS = 5
PARTS = (
    *(f"{network} {way}" for network in NETWORKS for way in ("forward", "backward")),
    LOSSES,
    OPTIMIZERS,
    OVERHEAD,
)


@dataclass(frozen=True)
class Part:
    """Seconds and multiply-adds of one part in one phase, per iteration.

    ``phase`` is "" if the phases could not be separated, ``multiply_adds`` None if they could not be counted.
    """

    phase: str
    part: str
    seconds: float
    multiply_adds: int | None


@dataclass(frozen=True)
class Profile:
    """The measurements, per iteration unless stated otherwise.

    ``seconds`` is measured without hooks, and ``seconds_rounds`` are its values in each round. ``seconds_watched`` is
    measured with the hooks that separate the parts; it is the sum of the parts.
    """

    method: str
    device: str
    threads: int
    batch_size: int
    iterations: int
    warm_up: int
    steps: dict[str, float]
    images: float
    seconds: float
    seconds_rounds: list[float]
    seconds_watched: float
    parts: list[Part]
    multiply_adds: int | None
    ceilings: list[Ceiling]
    peak_resident_bytes: int | None
    peak_device_bytes: int | None
    page_faults: float | None
    levers: dict[str, str]
    kernels: list[str]
    versions: dict[str, str]

    @property
    def images_per_second(self) -> float:
        """Images that went through it per second of its time."""
        return self.images / self.seconds

    @property
    def flops_per_second(self) -> float | None:
        """Two for each multiply-add, per second; None if they were not counted."""
        return None if self.multiply_adds is None else 2.0 * self.multiply_adds / self.seconds

    def as_data(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {
            **asdict(self),
            "ceilings": [ceiling._asdict() for ceiling in self.ceilings],
            "images_per_second": self.images_per_second,
            "flops_per_second": self.flops_per_second,
        }


def profile(trainer: DFADTrainer, iterations: int, warm_up: int) -> Profile:
    """Runs ``warm_up`` iterations of ``trainer``, then ``iterations`` without and again with hooks.

    Raises UsageError if ``iterations`` is less than 1 or ``warm_up`` is negative.
    """
    for name, value, least in (("iterations", iterations, 1), ("warm-up", warm_up, 0)):
        if value < least:
            raise UsageError(f"--{name} must be at least {least}, got {value}")
    clock = clock_of(trainer.distiller.device)
    if trainer.distiller.levers.graph:
        warm_up = max(warm_up, ITERATIONS_UNTIL_CAPTURED)
    _log.info(
        f"profile: {counted(warm_up, 'iteration')} to warm up, then {iterations} without hooks and {iterations} with"
    )
    _step(trainer, warm_up, clock)
    with StepHooks(trainer, clock).attached():
        _step(trainer, min(warm_up, 1), clock)  # torch.compile may recompile because of the hooks
    hooks = StepHooks(trainer, clock)
    images = trainer.generated_images
    rounds: list[tuple[int, float]] = []
    faults = 0
    for count in _rounds(iterations):
        faults_before = page_faults() or 0
        rounds.append((count, _step(trainer, count, clock)))
        faults += (page_faults() or 0) - faults_before
        with hooks.attached():
            _step(trainer, count, clock)
    peak, device_peak = peak_resident_bytes(), _peak_device_bytes(trainer.distiller.device)
    parts = _parts(hooks, iterations)
    work = [part.multiply_adds for part in parts]
    _log.info("profile: matrix products, for comparison")
    return Profile(
        method=trainer.distiller.method.name,
        device=device_name(trainer.distiller.device),
        threads=torch.get_num_threads(),
        batch_size=trainer.batch_size,
        iterations=iterations,
        warm_up=warm_up,
        steps={phase: hooks.timeline.phases()[phase] / iterations for phase in PHASES},
        images=(trainer.generated_images - images) / (2 * iterations),
        seconds=sum(seconds for _, seconds in rounds) / iterations,
        seconds_rounds=[seconds / count for count, seconds in rounds],
        seconds_watched=sum(part.seconds for part in parts),
        parts=parts,
        multiply_adds=sum(n for n in work if n) if any(work) and None not in work else None,
        ceilings=measure_ceilings(trainer.distiller.device),
        peak_resident_bytes=peak,
        peak_device_bytes=device_peak,
        page_faults=None if page_faults() is None else faults / iterations,
        levers=trainer.distiller.levers.describe(),
        kernels=trainer.distiller.prober.describe_kernels(),
        versions=versions(),
    )


def _step(trainer: DFADTrainer, iterations: int, clock: Clock) -> float:
    clock.wait()
    first = clock.read()
    for _ in range(iterations):
        trainer.step()
    last = clock.read()
    clock.wait()
    return clock.between(first, last)


def _rounds(iterations: int) -> Iterator[int]:
    rounds = min(_ROUNDS, iterations)
    for index in range(rounds):
        yield iterations // rounds + (index < iterations % rounds)


def _parts(hooks: StepHooks, iterations: int) -> list[Part]:
    seconds = hooks.timeline.seconds()
    work = _work(hooks)
    return [
        Part(
            phase,
            part,
            seconds[phase, part] / iterations,
            None if (count := work.get((phase, part), 0)) is None else round(count / iterations),
        )
        for phase in (*PHASES, "")
        for part in PARTS
        if seconds[phase, part]
    ]


def _work(hooks: StepHooks) -> dict[tuple[str, str], int | None]:
    """Multiply-adds by phase and part; 0 for parts that are not networks, None if they cannot be counted."""
    work: dict[tuple[str, str], int | None] = {}
    for call, images in hooks.images.items():
        each = multiply_adds(call.module, call.shape, call.to_weights, call.to_inputs)
        for way in ("forward", "backward"):
            key = call.phase, f"{call.network} {way}"
            before = work.get(key, 0)
            work[key] = None if each is None or before is None else before + images * getattr(each, way)
    return work


def _peak_device_bytes(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
