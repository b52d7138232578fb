"""Images that are optimized to be as a record says, at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.checksum import checksum
from dfad_fast.distributed import processes
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.probing import frozen
from dfad_fast.sources.recorded.inside import Inside
from dfad_fast.sources.recorded.record import Record
from dfad_fast.sources.recorded.settings import RecordedSettings
from dfad_fast.sources.recorded.targets import Targets
from dfad_fast.sources.source import Batch, Plan, Source, StepLosses, Turn, Workbench

_SEED, _HELD_OUT_SEED = 41, 42


@dataclass(frozen=True)
class _Opened:
    """A record, and what is made by it."""

    record: Record
    targets: Targets
    inside: Inside
    digest: str


class RecordedSource(Source):
    """The running source, see :class:`dfad_fast.sources.recorded.spec.Recorded`.

    Every process draws for the whole batch, and optimizes its own rows. After a run it opens the record only when it
    makes images.
    """

    def __init__(self, spec: RecordedSettings, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        self._spec = spec
        self._rng = np.random.default_rng([bench.seed, _SEED])
        self._held_out: list[Tensor] = []
        self._opened = None if bench.optimizer is None else self._open()

    def _open(self) -> _Opened:
        spec, record = self._spec, self._spec.read()
        inside = Inside(self._bench.prober, record, spec.layers > 0)
        return _Opened(record, Targets(record, spec.draws), inside, checksum(record.tensors()))

    @property
    def _by(self) -> _Opened:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    @property
    def notices(self) -> list[str]:
        record = self._by.record
        about, counts = record.about, record.class_counts
        left_out = int((counts == 0).sum())
        told = f"record of {about.images:,} images: {len(record.cluster_means)} clusters"
        return [f"{told}; it lacks {left_out} of {len(counts)} classes" if left_out else told]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        for _ in range(self._plan.student_steps):
            size = self._bench.batch_size
            turn.generated += size
            images, losses = self._make(self._rng, size, processes.own_rows(size))
            turn.losses.append(losses)
            yield self._bench.see(images, self._plan.student)

    def _make(self, rng: np.random.Generator, size: int, own: slice) -> tuple[Tensor, StepLosses]:
        """The rows ``own`` of a batch of ``size`` images, optimized, with the last step's losses."""
        bench, spec, trio, by = self._bench, self._spec, self._bench.prober.trio, self._by
        wanted = by.targets.draw(rng, size)[own].to(bench.device)
        noise = torch.from_numpy(rng.standard_normal((size, *bench.form.shape), dtype=np.float32))
        images = (
            noise[own]
            .to(bench.device, image_dtype(trio.student))
            .contiguous(memory_format=torch.channels_last)
        )
        images = self._within(images).requires_grad_()
        scaled = bench.prober.narrower == torch.float16
        optimizer = ScaledOptimizer(torch.optim.Adam([images], lr=spec.lr), bench.device, scaled)
        trio.teacher.eval()
        with frozen(trio.teacher):
            for _ in range(spec.steps):
                features, layers = by.inside(images)
                apart = ((features - wanted) / by.record.scale).square().mean()
                optimizer.descend(apart + spec.layers * layers + spec.smooth * _roughness(images))
                images.data = self._within(images.data)
        losses = {"images/features": apart.detach()}
        return images.detach(), losses | ({"images/layers": layers.detach()} if spec.layers else {})

    def _within(self, images: Tensor) -> Tensor:
        """With pixels between 0 and 1, where it is known how these were normalized."""
        if (known := self._bench.form.normalization) is None:
            return images
        mean, std = (value.to(images) for value in known)
        return images.clamp(-mean / std, (1 - mean) / std)

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor]:
        """Made once, and kept."""
        missing = count - sum(map(len, self._held_out))
        if missing > 0:
            passes = self._bench.prober.passes.teacher
            rng = np.random.default_rng([self._bench.seed, _HELD_OUT_SEED])
            with torch.inference_mode(False), torch.enable_grad(), self._bench.prober.stepping():
                sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
                self._held_out = [self._make(rng, size, slice(size))[0] for size in sizes]
            self._bench.prober.passes.teacher = passes  # counts are those of iterations
        return iter(torch.cat(self._held_out)[:count].split(batch_size))

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self._rng.bit_generator.state, "record": self._by.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises RuntimeError if the record has changed."""
        if state["record"] != self._by.digest:
            raise RuntimeError("the record that its source reads has changed: restore it")
        self._rng.bit_generator.state = state["rng"]


def _roughness(images: Tensor) -> Tensor:
    """Mean absolute difference between neighboring pixels, to the right and below."""
    right, below = images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]
    return right.abs().mean() + below.abs().mean()
