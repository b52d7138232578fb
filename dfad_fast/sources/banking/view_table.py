"""Views as rows of numbers, so that some of them are picked, or written, at once."""

from __future__ import annotations

import torch
from torch import Tensor

from dfad_fast.sources.augmenting import Views

WIDTH = 11


def as_table(views: Views) -> Tensor:
    """[n, WIDTH] in float32, which holds every column exactly: places are below 2^24."""
    columns = (views.dy, views.dx, views.scale, views.flip, views.kind, views.partner, views.lam)
    return torch.cat([*(column.float()[:, None] for column in columns), views.box.float()], 1)


def as_views(table: Tensor) -> Views:
    """The views that :func:`as_table` was given."""
    dy, dx, scale, flip, kind, partner, lam = table[:, :7].unbind(1)
    return Views(dy, dx, scale, flip.bool(), kind.to(torch.uint8), partner.long(), lam, table[:, 7:].int())
