"""Which mixtures of two images to make, learned beside the student."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.distributed import differentiable, processes
from dfad_fast.precision import at_least_float32

_WIDTH = 32
_SMALL = 1e-3


class MixingPolicy(nn.Module):
    """AdaMixUp's policy region generator and its intrusion discriminator, for images of ``channels`` channels.

    From Guo et al. 2019, arXiv 1809.02499. The images may have any height and width. The published networks have the
    classifier's form, and the discriminator shares its weights. Here both are small and have weights of their own, so
    that only the teacher teaches the student; and the policy sees both images side by side, where the published code
    adds them under random masks.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.region = _convolutions(2 * channels, 3)
        self.discriminator = _convolutions(channels, 1)

    def coefficients(self, images: Tensor, uniform: Tensor, perm: Tensor) -> Tensor:
        r"""The mixing coefficients :math:`\lambda = \alpha + \Delta\,\epsilon` of the whole batch [B].

        A softmax over the policy's answer to an image and its partner gives
        :math:`(\alpha, \Delta, 1 - \alpha - \Delta)`. ``images`` are this process's [b, C, H, W]; ``uniform``,
        :math:`\epsilon` from 0 to 1, and ``perm`` are the whole batch's [B].
        """
        pairs = torch.cat([images, differentiable.partners(images, perm)], dim=1)
        alpha, width, _ = at_least_float32(self.region(_as(pairs, self))).softmax(1).unbind(1)
        return differentiable.gather(alpha + width * uniform[processes.own_rows(len(uniform))])

    def intrusion(self, images: Tensor, mixtures: Tensor) -> Tensor:
        """The mean cross-entropy, in nats, of telling ``images`` [b, C, H, W] from ``mixtures`` of them.

        Policy and discriminator both minimize it: a mixture that looks like an image would be in conflict with that
        image's label.
        """
        real, mixed = (at_least_float32(self.discriminator(_as(x, self))) for x in (images, mixtures))
        return 0.5 * (F.softplus(-real).mean() + F.softplus(mixed).mean())


def _convolutions(channels: int, answers: int) -> nn.Sequential:
    """Without batch norm, which several processes would have to share.

    It begins with nearly equal answers to all images, as the published networks do.
    """
    last = nn.Linear(_WIDTH, answers)
    nn.init.normal_(last.weight, std=_SMALL)
    nn.init.zeros_(last.bias)
    layers: list[nn.Module] = []
    for before in (channels, _WIDTH, _WIDTH):
        layers += [nn.Conv2d(before, _WIDTH, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


def _as(images: Tensor, module: nn.Module) -> Tensor:
    """``images`` in the dtype of the module's weights."""
    return images.to(next(module.parameters()).dtype)
