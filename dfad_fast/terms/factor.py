"""Factor transfer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term, check_stage

_SLOPE = 0.1


@dataclass(frozen=True)
class FactorTransfer(Term):
    """Factor transfer: compares factors translated from the student's features and paraphrased from the teacher's.

    Mean ``|F_T / ||F_T|| - F_S / ||F_S|||``, with norms over an image's factors, at one stage; -1 is the last (Kim et
    al. 2018, arXiv 1802.04977, with p = 1). The paraphraser is a convolutional autoencoder whose code has ``rate``
    times the channels of the teacher's features. The paper trains it on the data beforehand. Here it learns beside the
    student from its reconstruction's mean squared error, which is added to the loss; the factors send it no gradient.
    The translator has the encoder's form and reads the student's features behind their connector.

    Raises UsageError for ``rate`` outside (0, 4]. ``check`` raises it for a stage that does not exist or has no
    positions.
    """

    stage: int = -1
    rate: float = 0.5
    name: ClassVar[str] = "factor"
    reads_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 4:
            raise UsageError(f"factor: rate must be > 0 and at most 4, got {self.rate}")

    def check(self, stages: Sequence[Sequence[int]]) -> None:
        check_stage(self, self.stage, stages)
        if len(stages[self.stage]) != 3:
            raise UsageError(
                f"factor: expected features [C, H, W] at stage {self.stage}, got {list(stages[self.stage])}: name "
                "another stage"
            )

    def module(self, stages: Sequence[Sequence[int]], image_shape: tuple[int, int, int]) -> nn.Module:
        channels = stages[self.stage][0]
        return Factors(channels, max(1, round(self.rate * channels)))

    def __call__(self, probe: Probe) -> Tensor:
        assert isinstance(probe.module, Factors)
        teacher = probe.teacher_features[self.stage].detach()
        factors = probe.module.encoder(teacher)
        restored = at_least_float32(probe.module.decoder(factors))
        translated = probe.module.translator(probe.student_features[self.stage])
        distance = F.l1_loss(_unit(translated), _unit(factors.detach()))
        return distance + F.mse_loss(restored, at_least_float32(teacher))


class Factors(nn.Module):
    """Paraphraser (encoder and decoder of the teacher's features) and translator (encoder of the student's).

    For features [B, ``channels``, H, W], whose encoders return ``factors`` channels of the same size.
    """

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = _convolutions(channels, channels, factors, factors)
        self.decoder = _convolutions(factors, factors, channels, channels)
        self.translator = _convolutions(channels, channels, factors, factors)


def _convolutions(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
        layers.append(nn.LeakyReLU(_SLOPE))
    return nn.Sequential(*layers)


def _unit(factors: Tensor) -> Tensor:
    return F.normalize(at_least_float32(factors).flatten(1), dim=1)
