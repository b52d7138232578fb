"""Generated images with both networks' labels, as pictures show them."""

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
"""Mean and deviation per channel that the teacher's images were normalized with, if they are known."""


@torch.no_grad()
def label_samples(
    distiller: Distiller, normalization: Normalization, count: int = SHOWN_IMAGES
) -> LabeledSamples:
    """Generated images, always of the same noise. Changes nothing of the run.

    All of several processes ask the networks, since the teacher may be sharded over them.
    """
    networks = distiller.networks
    shown, teacher, student = [], [], []
    networks.teacher.eval()
    networks.student.eval()
    # A network of the user's may draw from the global sources of randomness even here.
    with undisturbed(distiller.device):
        for batch in distiller.held_out_batches(count):
            bright = pictures.brightness(batch, normalization)
            shown.append(pictures.shrink(bright).cpu())
            teacher.append(ask(networks.teacher, batch).argmax(1).cpu())
            student.append(ask(networks.student, batch).argmax(1).cpu())
    _, height, width = networks.image_shape
    return LabeledSamples(torch.cat(shown), torch.cat(teacher), torch.cat(student), (height, width))


def try_to_label_samples(
    distiller: Distiller, normalization: Normalization, count: int = SHOWN_IMAGES
) -> LabeledSamples | None:
    """Warns where a network raises: pictures are no reason to lose a run. None too where the teacher is a black box,
    which is not asked for them."""
    if distiller.networks.teacher_is_black_box:
        return None
    attempts = Attempts()
    samples = attempts.attempt(
        "generated images", lambda: label_samples(distiller, normalization, count), together=True
    )
    if attempts.failures:
        warnings.warn(f"not drawn: {attempts}", DFADFastWarning, stacklevel=2)
    return samples
