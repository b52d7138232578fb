"""Generated images with both networks' labels, for pictures."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from dfad_fast.attempts import Attempts
from dfad_fast.engine.distiller import Distiller
from dfad_fast.engine.evaluation import ask
from dfad_fast.engine.global_randomness import undisturbed
from dfad_fast.errors import DFADFastWarning
from dfad_fast.reporting import pictures
from dfad_fast.runs.events import LabeledSamples

SHOWN_IMAGES = 64

Normalization = tuple[Tensor, Tensor] | None
"""Mean and standard deviation per channel by which the teacher's images were normalized, if known."""


@torch.no_grad()
def label_samples(
    distiller: Distiller, normalization: Normalization, count: int = SHOWN_IMAGES
) -> LabeledSamples:
    """``count`` held-out images, or all if there are fewer. The run's state does not change.

    All processes run the networks, since the teacher may be sharded over them.
    """
    networks = distiller.networks
    shown, teacher, student = [], [], []
    networks.teacher.eval()
    networks.student.eval()
    # A user's network may draw from the global random generators even here.
    with undisturbed(distiller.device):
        for batch in distiller.held_out_batches(distiller.held_out_count(count)):
            bright = pictures.brightness(batch, normalization)
            shown.append(pictures.shrink(bright).cpu())
            teacher.append(ask(networks.teacher, batch).argmax(1).cpu())
            student.append(ask(networks.student, batch).argmax(1).cpu())
    _, height, width = networks.image_shape
    return LabeledSamples(torch.cat(shown), torch.cat(teacher), torch.cat(student), (height, width))


def try_to_label_samples(
    distiller: Distiller, normalization: Normalization, count: int = SHOWN_IMAGES
) -> LabeledSamples | None:
    """Warns and returns None if a network raises, because pictures must not cost a run.

    Also returns None if the teacher is a black box: no queries are spent on pictures.
    """
    if distiller.networks.teacher_is_black_box:
        return None
    attempts = Attempts()
    samples = attempts.attempt(
        "generated images", lambda: label_samples(distiller, normalization, count), together=True
    )
    if attempts.failures:
        warnings.warn(f"not drawn: {attempts}", DFADFastWarning, stacklevel=2)
    return samples
