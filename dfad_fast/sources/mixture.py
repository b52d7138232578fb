"""Several sources at once: each makes its share of every batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.distributed import processes
from dfad_fast.errors import UsageError
from dfad_fast.networks.probing import TeacherView
from dfad_fast.sources.source import Batch, Plan, Source, Turn, Workbench
from dfad_fast.sources.spec import SourceSpec
from dfad_fast.sources.storage import Part
from dfad_fast.terms import reads_statistics
from dfad_fast.terms.term import DECAYS, Decay

_FEWEST = 2
"""The fewest images of a part in a process: a generator's batch norm layers need them."""


_TIMES = tuple((step + 0.5) / 100 for step in range(100))
"""Fractions of a run at which the shares are checked in advance."""


@dataclass(frozen=True)
class Share:
    """A part of a mixture. Its share is its ``weight`` relative to the others, with the schedule ``decay``."""

    weight: float
    of: SourceSpec
    decay: Decay = "constant"

    def weight_at(self, progress: float) -> float:
        """The weight at the fraction ``progress`` (0 to 1) of the run."""
        return self.weight * DECAYS[self.decay](progress)


@dataclass(frozen=True)
class Mixture(SourceSpec):
    """Batches composed of ``shares``, whose weights are relative to each other.

    Raises UsageError for weights below 0, and if all shares are 0 at some time of the run.
    """

    shares: tuple[Share, ...]

    def __post_init__(self) -> None:
        for share in self.shares:
            if not share.weight >= 0:
                raise UsageError(f"the share of {share.of} must be at least 0, got {share.weight:g}")
            if isinstance(share.of, Mixture):
                raise UsageError(
                    f"a share must be of one source, got the mixture {share.of}: give each part its own share"
                )
        for progress in _TIMES:
            if not sum(share.weight_at(progress) for share in self.shares) > 0:
                raise UsageError(
                    f"after {progress:.0%} of the run no source of {self} has a share: give one a schedule that "
                    "does not end"
                )

    @property
    def parts(self) -> tuple[SourceSpec, ...]:
        return tuple(share.of for share in self.shares)

    def with_parts(self, parts: tuple[SourceSpec, ...]) -> Mixture:
        return Mixture(tuple(replace(own, of=of) for own, of in zip(self.shares, parts, strict=True)))

    def __str__(self) -> str:
        return " + ".join(_written(share) for share in self.shares)

    def make(self, bench: Workbench, plan: Plan) -> Source:
        return MixtureSource(self, bench, plan)


def _written(share: Share) -> str:
    text = str(share.of)
    if share.decay != "constant":
        text = f"{text[:-1]}, " if text.endswith(")") else f"{text}("
        text += f"schedule={share.decay})"
    return f"{share.weight:g}*{text}"


def _seed_of(part: int, seed: int) -> int:
    """A seed for each part, because equal sources would make the same images; the first part uses the run's."""
    return int(np.random.SeedSequence([seed, 6, part]).generate_state(1)[0]) if part else seed


class MixtureSource(Source):
    """A part pauses while its share rounds to no images, or to fewer than batch norm layers need."""

    def __init__(self, spec: Mixture, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        if reads_statistics(plan.student):
            raise UsageError(
                "a mixture of sources has no batch norm statistics of the whole batch: remove the terms that read "
                "them from the student's"
            )
        self._shares = spec.shares
        self._benches = [
            replace(bench, storage=Part(bench.storage, str(part)), seed=_seed_of(part, bench.seed))
            for part in range(len(spec.shares))
        ]
        self._sources = [
            share.of.make(own, plan) for share, own in zip(spec.shares, self._benches, strict=True)
        ]
        self._last: list[tuple[Source, Batch]] = []
        self._refuse_too_small()
        self._progress = 0.0
        self._share_out(0.0)

    def _sizes(self, progress: float) -> list[int]:
        """The number of images of each part in this process's batch."""
        # After the planned steps all weights may be 0: the last shares then stay.
        weights = [share.weight_at(min(progress, _TIMES[-1])) for share in self._shares]
        return shared_out(self._bench.own_batch_size, weights)

    def _refuse_too_small(self) -> None:
        sizes = [self._sizes(progress) for progress in _TIMES]
        for share, own in zip(self._shares, zip(*sizes, strict=True), strict=True):
            if share.weight and not any(own):
                raise UsageError(
                    f"{_written(share)} has fewer than {_FEWEST} images in a batch of {self._bench.own_batch_size} "
                    "at any time of the run, so it would never be used: give it a larger share, or use larger "
                    "batches"
                )

    def _share_out(self, progress: float) -> None:
        self._progress = progress
        for bench, size in zip(self._benches, self._sizes(progress), strict=True):
            bench.own_batch_size, bench.batch_size = size, size * processes.count()

    @property
    def _active(self) -> list[Source]:
        pairs = zip(self._benches, self._sources, strict=True)
        return [source for bench, source in pairs if bench.own_batch_size]

    @property
    def own_steps(self) -> int:
        return sum(source.own_steps for source in self._active)

    @property
    def generated_images(self) -> int:
        """The mean over the run, because shares change."""
        now, made = self._progress, 0
        for progress in _TIMES:
            self._share_out(progress)
            made += sum(source.generated_images for source in self._active)
        self._share_out(now)
        return round(made / len(_TIMES))

    @property
    def waiting(self) -> int:
        return max((source.waiting for source in self._active), default=0)

    def stop_waiting(self) -> None:
        for source in self._sources:
            source.stop_waiting()

    @property
    def notices(self) -> list[str]:
        return [notice for source in self._sources for notice in source.notices]

    @property
    def networks(self) -> list[nn.Module]:
        return [network for source in self._sources for network in source.networks]

    def draw(self, rng: np.random.Generator, progress: float) -> list[list[tuple[np.ndarray, ...]]]:
        self._share_out(progress)
        return [step for source in self._active for step in source.draw(rng, progress)]

    def batches(self, turn: Turn) -> Iterator[Batch]:
        active = self._active
        turns = [
            Turn(iter(list(islice(turn.draws, source.own_steps))), turn.weights, turn.progress, turn.losses)
            for source in active
        ]
        handed_out = [source.batches(own) for source, own in zip(active, turns, strict=True)]
        for parts in zip(*handed_out, strict=False):  # a part without images makes the others wait
            self._last = list(zip(active, parts, strict=True))
            yield _joined(parts)
        for remaining in handed_out:
            for _ in remaining:  # its own steps may follow its last batch
                pass
        turn.generated += sum(own.generated for own in turns)

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor] | None:
        """Those of the first part that has any; with a trained generator, the generator's."""
        found = [source.held_out(count, batch_size) for source in self._sources]
        return None if None in found else found[0]

    @property
    def held_out_limit(self) -> int | None:
        return self._sources[0].held_out_limit

    def recall(self, state: dict[str, Any]) -> None:
        for source, part in zip(self._sources, state["parts"], strict=True):
            source.recall(part)

    def learned(self, batch: Batch, answers: Tensor) -> None:
        own = answers.split([len(part.images) for _, part in self._last])
        for (source, part), of_part in zip(self._last, own, strict=True):
            source.learned(part, of_part)

    def follow(self, iteration: int) -> None:
        for source in self._sources:
            source.follow(iteration)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [source.state_dict() for source in self._sources]}

    def state_of_all(self) -> dict[str, Any]:
        return {"parts": [source.state_of_all() for source in self._sources]}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(self._sources, state["parts"], strict=True)
        return {"parts": [source.own_part(part) for source, part in pairs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for source, part in zip(self._sources, state["parts"], strict=True):
            source.load_state_dict(part)

    @property
    def unchanging(self) -> list[Tensor]:
        return [tensor for source in self._sources for tensor in source.unchanging]


def shared_out(images: int, weights: Sequence[float]) -> list[int]:
    """Splits ``images`` into whole parts as close to ``weights`` as possible; too small a part goes to the largest."""
    exact = [images * weight / sum(weights) for weight in weights]
    sizes = [int(size) for size in exact]
    by_remainder = sorted(range(len(exact)), key=lambda part: sizes[part] - exact[part])
    for part in by_remainder[: images - sum(sizes)]:
        sizes[part] += 1
    largest = sizes.index(max(sizes))
    for part, size in enumerate(sizes):
        if size < _FEWEST and part != largest:
            sizes[largest] += size
            sizes[part] = 0
    return sizes


def _joined(parts: Sequence[Batch]) -> Batch:
    """Joins the parts into one batch with the teacher's answers."""
    views = [part.view for part in parts]
    last_stages = [view.last_stage for view in views if view.last_stage is not None]
    view = TeacherView(
        torch.cat([view.logits for view in views]),
        views[0].ask,
        [torch.cat(stage) for stage in zip(*(view.features for view in views), strict=True)],
        torch.cat(last_stages) if last_stages else None,
        statistics=[],
    )
    return Batch(torch.cat([part.images for part in parts]), view)
