"""All random numbers of a run: the generator's noise on the device, the terms' numbers on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.distributed import processes
from dfad_fast.engine.iteration import Iteration
from dfad_fast.networks.probing import Draws


class RandomNumbers:
    """Fixed by ``seed``. Every process draws the same numbers for the whole batch and uses its own rows."""

    def __init__(self, seed: int, latent_dim: int, device: torch.device, dtype: torch.dtype) -> None:
        self._seed = seed
        self._latent_dim = latent_dim
        self._device = device
        self._dtype = dtype
        self.noise = torch.Generator(device).manual_seed(seed)
        """The source of the steps' noise."""
        self._mixing = np.random.default_rng(seed)

    def held_out(self) -> torch.Generator:
        """A new source of noise that no step draws from."""
        # Not an offset of the seed: torch's CPU generator uses only its low 32 bits.
        seed = int(np.random.SeedSequence([self._seed, 1]).generate_state(1)[0])
        return torch.Generator(self._device).manual_seed(seed)

    def draw_noise(self, count: int, source: torch.Generator) -> Tensor:
        """Noise [count, latent_dim]."""
        return torch.randn(count, self._latent_dim, generator=source, device=self._device, dtype=self._dtype)

    def draw_own_noise(self, count: int, batch_size: int) -> Tensor:
        """Noise [count, latent_dim] for ``count`` images of this process.

        It is this process's rows of the noise for whole batches of ``batch_size`` images, which all processes draw
        identically.
        """
        noise = self.draw_noise(count * processes.count(), self.noise)
        batches = noise.view(-1, batch_size, self._latent_dim)
        return batches[:, processes.own_rows(batch_size)].reshape(count, self._latent_dim)

    def draw_for(self, iteration: Iteration, progress: float) -> list[Draws]:
        """The terms' random numbers for an iteration, on the device."""
        return [
            [tuple(self._to_device(x) for x in drawn) for drawn in rows]
            for rows in iteration.draw(self._mixing, progress)
        ]

    def _to_device(self, drawn: np.ndarray) -> Tensor:
        floating = torch.float64 if self._dtype == torch.float64 else torch.float32
        x = torch.as_tensor(drawn, device="cpu", dtype=floating if drawn.dtype.kind == "f" else None)
        if self._device.type == "cuda":
            x = x.pin_memory()  # so that the host does not wait for the copy
        return x.to(self._device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """The states of both generators."""
        return {"noise": self.noise.get_state(), "mixing": self._mixing.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the result of :meth:`state_dict`."""
        self.noise.set_state(state["noise"])
        self._mixing.bit_generator.state = state["mixing"]
