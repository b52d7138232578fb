"""Applies stored views to images, all at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from dfad_fast.precision import at_least_float32
from dfad_fast.sources.augmenting.views import MIXTURE, PLAIN, Views


def apply_views(images: Tensor, partners: Tensor, views: Views) -> Tensor:
    """The views [n, C, H, W] of ``images`` [n, C, H, W] and their ``partners``, the images at ``views.partner``.

    Both are floating point, with one dtype and device; ``views`` are on the CPU and need no synchronization with the
    device. A shift repeats the image's edge: in the teacher's input space 0 is gray, and a surround of another value
    must continue. Crops are interpolated bilinearly.
    """
    if bool((views.kind != PLAIN).any()):
        images = _mixed(images, partners, views)
    if bool((views.scale != 1).any()):
        return _interpolated(images, views)
    if bool(((views.dy != 0) | (views.dx != 0) | views.flip).any()):
        return _moved(images, views)
    return images


def _mixed(images: Tensor, partners: Tensor, views: Views) -> Tensor:
    _, _, height, width = images.shape
    y0, y1, x0, x1 = (end[:, None] for end in views.box.unbind(1))
    y, x = (torch.arange(size, device="cpu") for size in (height, width))
    in_box = ((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None, :]
    share = torch.where(views.kind == MIXTURE, views.lam, 1.0)[:, None, None] * ~in_box
    # Exact at 0 and 1: unmixed images stay bit-equal.
    return torch.lerp(partners, images, share[:, None].to(images.device, images.dtype, non_blocking=True))


def _moved(images: Tensor, views: Views) -> Tensor:
    count, channels, height, width = images.shape
    y, x = _places(views, height, width)
    pixel = (y.long()[:, :, None] * width + x.long()[:, None, :]).view(count, 1, height * width)
    pixel = pixel.to(images.device, non_blocking=True).expand(-1, channels, -1)
    return images.flatten(2).gather(2, pixel).view(images.shape)


def _interpolated(images: Tensor, views: Views) -> Tensor:
    count, _, height, width = images.shape
    y, x = _places(views, height, width)
    # In grid_sample's coordinates the image extends from -1 to 1.
    y, x = (2 * y + 1) / height - 1, (2 * x + 1) / width - 1
    places = torch.stack(
        [x[:, None, :].expand(count, height, width), y[:, :, None].expand(count, height, width)], 3
    )
    finer = at_least_float32(images)
    places = places.to(finer.device, finer.dtype, non_blocking=True)
    return grid_sample(finer, places, padding_mode="border", align_corners=False).to(images.dtype)


def _places(views: Views, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The rows [n, H] and columns [n, W] of the image that the views show."""
    x = torch.arange(width, dtype=torch.float32, device="cpu")
    x = torch.where(views.flip[:, None], width - 1 - x, x)
    y = torch.arange(height, dtype=torch.float32, device="cpu")
    scale = views.scale[:, None]
    # Written so that scale 1 gives exact whole numbers.
    half = 0.5 * (scale - 1)
    return (
        (y * scale + half + views.dy[:, None]).clamp(0, height - 1),
        (x * scale + half + views.dx[:, None]).clamp(0, width - 1),
    )
