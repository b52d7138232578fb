"""The teacher's features of earlier images, so that new images differ from them (CMI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.distributed import differentiable
from dfad_fast.errors import UsageError
from dfad_fast.models.reading.batch_norm import LayerStatistics, record_statistics
from dfad_fast.models.reading.check import noise_images
from dfad_fast.networks.trio import Trio
from dfad_fast.precision import at_least_float32
from dfad_fast.sources.restarted.weights import draw_anew

_EMBEDDED = 128
_BETAS = (0.9, 0.999)


class FeatureBank:
    """Features of the last ``capacity`` images in half precision, on ``device``; new ones replace the oldest."""

    def __init__(self, capacity: int, length: int, device: torch.device) -> None:
        self._kept = torch.zeros(capacity, length, dtype=torch.float16, device=device)
        self._met = 0

    def __len__(self) -> int:
        return min(self._met, len(self._kept))

    def take(self, features: Tensor) -> None:
        """Features [N, length] of N new images."""
        features = features[-len(self._kept) :]
        places = (self._met + torch.arange(len(features), device=features.device)) % len(self._kept)
        most = torch.finfo(torch.float16).max
        self._kept[places] = features.clamp(-most, most).to(torch.float16)
        self._met += len(features)

    def draw(self, rng: np.random.Generator, count: int) -> Tensor:
        """``count`` random ones, or all if there are fewer."""
        chosen = rng.choice(len(self), min(count, len(self)), replace=False)
        return self._kept[torch.from_numpy(chosen).to(self._kept.device)].float()

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self._kept[: len(self)], "met": self._met}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._met = state["met"]
        self._kept[: len(self)] = state["kept"].to(self._kept.device)


class Contrasting:
    """A head that embeds the teacher's features of images, and features of earlier images for comparison.

    An image's features are the channel means at the inputs of all the teacher's batch norm layers, ``width`` in total.
    The head, two linear layers, is trained with the generator and maps them to 128 numbers. Each step compares with
    ``compared`` of the ``capacity`` earlier images (contrastive model inversion, Fang et al. 2021, arXiv 2105.08584,
    section 3.2).
    """

    def __init__(
        self, width: int, capacity: int, compared: int, rng: np.random.Generator, like: Tensor
    ) -> None:
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _EMBEDDED)).to(like)
        draw_anew(self.head, rng, "uniform")
        self._bank = FeatureBank(capacity, 2 * width, like.device)
        self._compared = compared
        self._rng = rng
        self._steps: list[dict[str, Any]] = [{} for _ in self.head.parameters()]

    def lend(self, optimizer: torch.optim.Optimizer, rate: float) -> None:
        """Adds the head to ``optimizer``, with the optimizer state of the previous round."""
        parameters = list(self.head.parameters())
        optimizer.add_param_group({"params": parameters, "lr": rate, "betas": _BETAS})
        for parameter, state in zip(parameters, self._steps, strict=True):
            if state:
                optimizer.state[parameter] = state

    def take_back(self, optimizer: torch.optim.Optimizer) -> None:
        """Saves the head's state from ``optimizer``."""
        self._steps = [optimizer.state[parameter] for parameter in self.head.parameters()]

    def draw(self) -> Tensor | None:
        """Features of earlier images for a step; None while there are none."""
        return self._bank.draw(self._rng, self._compared) if len(self._bank) else None

    def embed(self, crops: Tensor, wholes: Tensor, former: Tensor | None) -> tuple[Tensor, Tensor]:
        """The inputs of :class:`dfad_fast.terms.Contrast`, from features [B, width] of crops and whole images."""
        if former is not None:
            of_crops, of_wholes = former.to(crops).chunk(2, 1)
            crops, wholes = torch.cat([crops, of_crops]), torch.cat([wholes, of_wholes])
        of_crops, of_wholes = F.normalize(at_least_float32(self.head(torch.cat([crops, wholes])))).chunk(2)
        return of_crops, of_wholes

    def take(self, features: Tensor) -> None:
        """Adds features of crops and whole images side by side, [B, 2 width], of this process's part of a batch."""
        self._bank.take(differentiable.gather(features.detach()))

    def state_dict(self) -> dict[str, Any]:
        return {
            "head": {key: value.detach() for key, value in self.head.state_dict().items()},
            "steps": self._steps,
            "bank": self._bank.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        device = next(self.head.parameters()).device
        self._steps = [
            {key: value.to(device) if key != "step" else value for key, value in kept.items()}
            for kept in state["steps"]
        ]
        self._bank.load_state_dict(state["bank"])


def contrasting_for(trio: Trio, capacity: int, compared: int, rng: np.random.Generator) -> Contrasting:
    """Creates it with the width of the teacher's batch norm layers, in the order of their use.

    Raises UsageError if a layer's input does not have one entry per image.
    """
    teacher, images = trio.teacher.eval(), 2
    with torch.no_grad(), record_statistics(teacher, instances=True) as layers:
        teacher(noise_images(teacher, trio.image_shape, images))
    if any(layer.instance_means is None or len(layer.instance_means) != images for layer in layers):
        raise UsageError(
            "contrast compares images by their features at the teacher's batch norm layers, and one layer's input "
            "does not have one entry per image: leave contrast out"
        )
    like = at_least_float32(next(trio.student.parameters()).new_empty(()))
    return Contrasting(instance_means(layers).shape[1], capacity, compared, rng, like)


def instance_means(layers: Sequence[LayerStatistics]) -> Tensor:
    """The images' channel means at all ``layers``, [B, total channels]."""
    return torch.cat([layer.instance_means for layer in layers if layer.instance_means is not None], dim=1)
