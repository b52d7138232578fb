"""Sheets of the same generated images at about ten moments of a run: when one is due, and what is on it.

The images are those of the run's held-out noise, so that from sheet to sheet one sees the same images change.
"""

from __future__ import annotations

from torch import Tensor

from dfad_fast.reporting import pictures
from dfad_fast.runs.sheet_file import Sheet

IMAGES = 32
_LARGEST = 48  # pixels a side: larger images are shrunk to it
_MOMENTS = 10


def is_due(iteration: int, evaluate_every: int, planned_iterations: int) -> bool:
    """Whether there is a sheet of it: at the first evaluation, and the first in each tenth of the run. Depends on
    nothing else, so that a resumed run goes on with the same moments."""
    if iteration % evaluate_every:
        return False
    before = iteration - evaluate_every
    return before == 0 or _MOMENTS * iteration // planned_iterations > _MOMENTS * before // planned_iterations


def lay_out(images: Tensor, teacher: Tensor, student: Tensor, iteration: int, generated_images: int) -> Sheet:
    """The first of the images [N, C, H, W] from 0 to 1. With channels other than 1 or 3 the first is shown."""
    shown = images[:IMAGES].float()
    if shown.shape[1] != 3:
        shown = shown[:, :1]
    shown = pictures.shrink(shown, _LARGEST)
    pixels = (255 * shown.permute(0, 2, 3, 1)).round().byte().cpu().numpy()
    return Sheet(iteration, generated_images, pixels, teacher[:IMAGES].tolist(), student[:IMAGES].tolist())
