"""The images that a run's student learned from, as a dataset with the teacher's answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfad_fast.engine.evaluation import ask
from dfad_fast.errors import UsageError
from dfad_fast.jobs.trained_run import TrainedRun
from dfad_fast.reporting.pictures import brightness
from dfad_fast.runs import record
from dfad_fast.runs.bank_files import BankFiles
from dfad_fast.runs.image_files import write_archive, write_folder
from dfad_fast.sources import ImageForm
from dfad_fast.sources.banking.reading import KeptImages

_GENERATED = 1000


@dataclass(frozen=True)
class Written:
    """``count`` images at ``path``. ``from_bank``: whether they come from the run's bank or were newly generated."""

    path: Path
    count: int
    from_bank: bool


def write_images(run: TrainedRun, out: str | None, count: int | None, seed: int) -> Written:
    """Writes images of the run to ``out``, a folder of PNGs or an .npz.

    They are those of the run's bank, or if it has none, new ones from its source. Draws ``count`` images by ``seed``;
    the default is the whole bank, or 1,000 new ones.

    Colors are true if the run records how the teacher's images were normalized. Otherwise each image is scaled from
    its darkest to its brightest value. The folder source reads both formats.

    Raises UsageError if ``out`` exists, there are no images, or they cannot be PNGs, and RunError if writing fails.
    """
    path = Path(out) if out else run.folder / "images"
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path} already exists: give another place with --out, or remove it")
    as_archive, channels = path.suffix == ".npz", run.image_shape[0]
    if not as_archive and channels not in (1, 3):
        raise UsageError(
            f"a PNG has 1 or 3 channels, but these images have {channels}: use --out NAME.npz, which takes any number"
        )
    found, from_bank = learned_images(run, count, seed)
    form = ImageForm(run.image_shape, run.mean, run.std)
    parts = ((_as_bytes(images, form), logits.cpu().numpy()) for images, logits in found)
    if as_archive:
        told: dict[str, Any] = {} if form.mean is None else {"mean": form.mean, "std": form.std}
        written = write_archive(path, parts, told)
    else:
        written = write_folder(path, parts)
    return Written(path, written, from_bank)


def learned_images(
    run: TrainedRun, count: int | None, seed: int
) -> tuple[Iterator[tuple[Tensor, Tensor]], bool]:
    """The images that the run's student learned from, in batches, and whether they are its bank's.

    A batch is images [n, C, H, W] with the teacher's logits [n, classes]. Without a bank's images, the run's source
    makes new ones.

    ``count`` of them, drawn by ``seed``; by default all of the bank, or 1,000 new ones. Raises UsageError, at the first
    batch, where there are none.
    """
    kept = _kept(run)
    if len(kept):
        return _of_bank(run, kept, count, seed), True
    return _made(run, count or _GENERATED, seed), False


def _kept(run: TrainedRun) -> KeptImages:
    state = record.read_state(run.folder)
    # Only for reading: nothing is written or removed.
    files = BankFiles(run.folder, keep_checkpoints=1, memory=0)
    return KeptImages(state["source"] if state and "source" in state else {}, files.read)


def _of_bank(
    run: TrainedRun, kept: KeptImages, count: int | None, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    places = np.arange(len(kept))
    if count is not None and count < len(places):
        places = np.sort(np.random.default_rng([seed, 4]).choice(places, count, replace=False))
    for images, logits in kept.parts(places):
        yield images, _answers(run, images) if logits is None else logits


def _made(run: TrainedRun, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    if not run.makes_images:
        raise UsageError(
            f"{run.folder} has no bank, and no checkpoint or generator that could make images: run it again"
        )
    for images in run.generated_batches(count, seed):
        yield images, _answers(run, images)


@torch.no_grad()
def _answers(run: TrainedRun, images: Tensor) -> Tensor:
    student = next(run.networks.student.parameters())
    parts = images.to(student.device, student.dtype).split(run.batch_size)
    return torch.cat([ask(run.networks.teacher, part).float() for part in parts])


def _as_bytes(images: Tensor, form: ImageForm) -> NDArray[np.uint8]:
    """[n, H, W, C]."""
    bright = brightness(images.float(), form.normalization)
    pixels: NDArray[np.uint8] = bright.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels
