"""Sheets of generated images at about ten moments of a run: when one is due, and its content.

All sheets use the run's held-out noise, so they show how the same images change.
"""

from __future__ import annotations

from torch import Tensor

from dfad_fast.reporting import pictures
from dfad_fast.runs.sheet_file import Sheet

IMAGES = 32
_LARGEST = 48  # pixels per side: larger images are shrunk
_MOMENTS = 10


def is_due(iteration: int, evaluate_every: int, planned_iterations: int) -> bool:
    """Whether this iteration gets a sheet: the first evaluation, and the first one in each tenth of the run.

    It depends on nothing else, so a resumed run continues with the same moments.
    """
    if iteration % evaluate_every:
        return False
    before = iteration - evaluate_every
    return before == 0 or _MOMENTS * iteration // planned_iterations > _MOMENTS * before // planned_iterations


def lay_out(images: Tensor, teacher: Tensor, student: Tensor, iteration: int, generated_images: int) -> Sheet:
    """A sheet of the first of the images [N, C, H, W] in [0, 1].

    Unless they have 1 or 3 channels, it shows the first channel.
    """
    shown = images[:IMAGES].float()
    if shown.shape[1] != 3:
        shown = shown[:, :1]
    shown = pictures.shrink(shown, _LARGEST)
    pixels = (255 * shown.permute(0, 2, 3, 1)).round().byte().cpu().numpy()
    return Sheet(iteration, generated_images, pixels, teacher[:IMAGES].tolist(), student[:IMAGES].tolist())
