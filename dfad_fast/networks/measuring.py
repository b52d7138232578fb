"""Chooses levers by a short measurement when a run begins."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from dfad_fast.models.reading.check import noise_images
from dfad_fast.networks.levers import Levers
from dfad_fast.networks.probing import Prober
from dfad_fast.networks.trio import Trio

_ROUNDS = 5
_WORTH_IT = 0.9
"""The fraction of float32's time that bfloat16 may take. A smaller gain is not worth rounding to 8 bits."""


def with_measured(levers: Levers, trio: Trio, batch_size: int) -> Levers:
    """``levers`` with the faster of two precisions instead of ``measured``.

    That is ``bfloat16`` if it saves at least a tenth of the teacher's time for a batch, otherwise ``same``.

    Each time is the shortest of several, measured in turns so that a busy machine disturbs both equally.
    """
    if levers.teacher_precision != "measured":
        return levers
    if trio.teacher_is_black_box:  # its precision is its own
        return replace(levers, teacher_precision="same")
    as_networks, narrower = (replace(levers, teacher_precision=name) for name in ("same", "bfloat16"))
    images = noise_images(trio.teacher, trio.image_shape, batch_size)
    # A sharded teacher answers in all processes together, and this code runs in only one of them.
    if levers.precision != "float32" or images.dtype != torch.float32 or trio.teacher_is_sharded:
        return as_networks
    images = images.contiguous(memory_format=torch.channels_last)
    probers = [Prober(trio, as_networks), Prober(trio, narrower)]
    shortest = [float("inf")] * 2
    for round in range(_ROUNDS + 1):
        for i, prober in enumerate(probers):
            started = time.perf_counter()
            with prober.stepping():
                prober.asker(graph=False)(images)
            if round:  # the first one transforms weights and allocates memory
                shortest[i] = min(shortest[i], time.perf_counter() - started)
    return narrower if shortest[1] < _WORTH_IT * shortest[0] else as_networks
