"""Old images shown again: a student that follows a changing generator forgets what that no longer makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.distributed import collectives, processes
from dfad_fast.errors import UsageError
from dfad_fast.models.surgery.average import MovingAverage


class Rehearsal:
    """Further student's steps of an iteration, on images of the run so far.

    One step with ``replay``, on one of as many kept batches (experience replay as in MAZE, Kariyappa et al. 2021, arXiv
    2005.03161; a memory bank in Binici et al. 2021, arXiv 2108.05698). The batches are at any time a uniform draw from
    all that the student learnt from, one of each iteration. One with ``generator_ema``, on what the generator's moving
    average with that decay per iteration makes (the momentum generator of MAD, Do et al. 2022, arXiv 2209.10359).

    Raises UsageError for fewer than 0 batches and for a decay that is not in [0, 1).
    """

    def __init__(
        self, generator: nn.Module, replay: int = 0, generator_ema: float | None = None, seed: int = 0
    ) -> None:
        if replay < 0:
            raise UsageError(f"replay must be at least 0 batches, got {replay}")
        self._settings = [replay, generator_ema]
        self._capacity = replay
        self._device = next((p.device for p in generator.parameters()), torch.device("cpu"))
        self._kept: list[Tensor] = []
        self._met = 0
        self._rng = np.random.default_rng([seed, 1])
        self._average = (
            MovingAverage(generator, generator_ema, "generator_ema") if generator_ema is not None else None
        )

    @property
    def steps(self) -> int:
        """Of the student's in an iteration."""
        return (self._capacity > 0) + self.generated_batches

    @property
    def generated_batches(self) -> int:
        """Of these steps; images that are shown again were counted before."""
        return int(self._average is not None)

    @property
    def kept(self) -> list[Tensor]:
        """The batches, none of which is written to."""
        return self._kept

    @property
    def averaged_generator(self) -> nn.Module | None:
        return self._average.network if self._average else None

    def take(self, images: Tensor) -> None:
        """Notes the images of the iteration's last student's step, as the last of all so far."""
        if not self._capacity:
            return
        self._met += 1
        if len(self._kept) < self._capacity:
            self._kept.append(images.clone())  # it may be a part of a larger tensor
        elif (place := int(self._rng.integers(self._met))) < self._capacity:
            self._kept[place] = images.clone()

    def batches(self, noise: Callable[[], Tensor]) -> list[Tensor]:
        """Images for each of the steps."""
        found = [self._kept[int(self._rng.integers(len(self._kept)))]] if self._capacity else []
        if self._average:
            with torch.no_grad():
                found.append(self._average.network.train()(noise()))
        return found

    def follow(self, generator: nn.Module, n: int) -> None:
        """Takes in the generator's weights after iteration ``n``, counted from 0."""
        if self._average:
            self._average.update(generator, n)

    def state_dict(self) -> dict[str, Any]:
        average = self._average.network.state_dict() if self._average else {}
        return {
            "settings": self._settings,
            "kept": list(self._kept),
            "met": self._met,
            "rng": self._rng.bit_generator.state,
            "averaged_generator": {key: value.detach() for key, value in average.items()},
        }

    def state_of_all(self) -> dict[str, Any]:
        """Of a run over several processes, in the first one with the images of all."""
        return {**self.state_dict(), "kept": [collectives.gather_at_first(images) for images in self._kept]}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        """The same with this process's images of a state that has those of all."""
        kept = state["kept"]
        if processes.count() > 1:
            # Copies: of a part of the whole nothing else would be given free.
            kept = [images[processes.own_rows(len(images))].clone() for images in kept]
        return {**state, "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises RuntimeError where the state is of other settings."""
        if state.get("settings") != self._settings:
            raise RuntimeError(
                f"its replay and generator_ema are {state.get('settings')} and not {self._settings}"
            )
        if self._average:
            self._average.network.load_state_dict(state["averaged_generator"])
        self._kept = [images.to(self._device) for images in state["kept"]]
        self._met = state["met"]
        self._rng.bit_generator.state = state["rng"]
