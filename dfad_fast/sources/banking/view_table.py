"""Views as rows of numbers, so that several can be selected or written at once."""

from __future__ import annotations

import torch
from torch import Tensor

from dfad_fast.sources.augmenting import Views

WIDTH = 11


def as_table(views: Views) -> Tensor:
    """[n, WIDTH] in float32, which holds every column exactly: indices are below 2^24."""
    columns = (views.dy, views.dx, views.scale, views.flip, views.kind, views.partner, views.lam)
    return torch.cat([*(column.float()[:, None] for column in columns), views.box.float()], 1)


def as_views(table: Tensor) -> Views:
    """Converts the result of :func:`as_table` back to views."""
    dy, dx, scale, flip, kind, partner, lam = table[:, :7].unbind(1)
    return Views(dy, dx, scale, flip.bool(), kind.to(torch.uint8), partner.long(), lam, table[:, 7:].int())
