"""The running source of a folder of images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.distributed import collectives, processes
from dfad_fast.errors import DFADFastWarning
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.sources.augmenting import apply_views, draw_views
from dfad_fast.sources.balancing import Choice
from dfad_fast.sources.folder.reading import read_images
from dfad_fast.sources.folder.recognition import recognize
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.source import Batch, Plan, Source, Turn, Workbench

_HELD_OUT = 10
"""One image in this many is held out."""


class FolderSource(Source):
    """The running source of a folder, see :class:`dfad_fast.sources.folder.spec.Folder`.

    Every process holds all images, draws the same ones for the whole batch and shows its own rows.
    """

    def __init__(
        self, bench: Workbench, plan: Plan, path: str, augment: str, repeats: float, limit: int
    ) -> None:
        super().__init__(bench, plan)
        self._augment, self._repeats = augment, repeats
        self._rng = np.random.default_rng([bench.seed, *b"folder"])
        shape = bench.form.shape
        images = read_images(path, shape, limit, self._rng)
        self._digest, self._pixels = images.digest, images.pixels
        order = torch.from_numpy(self._rng.permutation(len(self._pixels)))
        apart = len(order) // _HELD_OUT
        self._held_out, self._used = order[:apart], order[apart:]
        self._form = bench.form if bench.form.normalization else _standardizing(bench.form, self._pixels)
        self._dtype = image_dtype(bench.prober.trio.student)
        size = max(2, bench.own_batch_size)
        found = recognize(bench.prober, (self._shown(part) for part in self._used.split(size)))
        # The processes' results differ only by rounding, but all must draw the same images.
        known = collectives.collect(found)[0]
        self._uncounted = len(self._used)
        bench.prober.passes.teacher -= self._uncounted
        self._take(known.classes)
        self._notices = [f"{path}: {len(order):,} images, {apart:,} of them held out; {known}"]
        if self._form is not bench.form:
            self._notices.append(
                f"the normalization of the teacher's images is unknown (--mean, --std): those in {path} are "
                f"normalized by their own mean {_listed(self._form.mean)} and deviation {_listed(self._form.std)}"
            )
        if known.problem:
            warnings.warn(
                f"the images in {path} are far from the teacher's data, so a student learns less from them "
                f"({known.problem}): {known}; use images closer to its training data, check --mean and --std, or "
                "give them a smaller share beside a generator: '0.8*fresh + 0.2*folder(...)'",
                DFADFastWarning,
                stacklevel=2,
            )

    def _take(self, classes: Tensor) -> None:
        self._classes = classes
        self._choice = Choice(classes, self._repeats)

    @property
    def generated_images(self) -> int:
        return 0

    @property
    def notices(self) -> list[str]:
        return self._notices

    def batches(self, turn: Turn) -> Iterator[Batch]:
        # The teacher's initial answers count in the first iteration, also of a resumed run.
        self._bench.prober.passes.teacher += self._uncounted
        self._uncounted = 0
        whole, own = self._bench.batch_size, processes.own_rows(self._bench.batch_size)
        for _ in range(self._plan.student_steps):
            rows = self._used[self._choice.draw(self._rng, whole)]
            views = draw_views(self._rng, whole, self._form.shape, self._augment, whole).select(own)
            images = self._shown(rows[own])
            partners = self._shown(rows[views.partner])
            yield self._bench.see(apply_views(images, partners, views), self._plan.student)

    def _shown(self, rows: Tensor) -> Tensor:
        """The images at ``rows``, normalized like the teacher's, on the networks' device."""
        images = self._form.normalize(self._pixels[rows].to(self._bench.device).float() / 255)
        return images.to(self._dtype)

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor]:
        """Repeats them from the first if there are fewer than ``count``."""
        places = torch.arange(count, device="cpu") % len(self._held_out)
        return (self._shown(self._held_out[part]) for part in places.split(batch_size))

    def state_dict(self) -> dict[str, Any]:
        return {
            "rng": self._rng.bit_generator.state,
            "digest": self._digest,
            "classes": self._classes,
            "uncounted": self._uncounted,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises RuntimeError if the images have changed."""
        if state["digest"] != self._digest or len(state["classes"]) != len(self._classes):
            raise RuntimeError("the images that its source reads have changed: restore them")
        self._rng.bit_generator.state = state["rng"]
        self._uncounted = state["uncounted"]
        # Not today's answers: with other threads or versions an answer may differ.
        self._take(state["classes"].cpu())

    @property
    def unchanging(self) -> list[Tensor]:
        return [self._classes]


def _listed(values: Sequence[float] | None) -> str:
    return ",".join(f"{value:.4g}" for value in values or ())


def _standardizing(form: ImageForm, pixels: Tensor) -> ImageForm:
    """``form`` with the mean and standard deviation of ``pixels``, bytes [N, C, H, W]."""
    mean, std = [], []
    for channel in pixels.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256).double()
        shares, values = counts / counts.sum(), torch.arange(256, device="cpu").double() / 255
        mean.append(float(shares @ values))
        std.append(max(float(shares @ (values - mean[-1]).square()) ** 0.5, 1e-3))
    return replace(form, mean=tuple(mean), std=tuple(std))
