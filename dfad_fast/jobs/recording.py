"""Writes a record of a teacher's activations on its data to a file that holds no images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from dfad_fast.data import Dataset, load_dataset
from dfad_fast.errors import UsageError
from dfad_fast.jobs.devices import choose_device
from dfad_fast.jobs.networks import build_teacher, normalization_of, run_plugins
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.jobs.teachers import Teacher
from dfad_fast.models.ensemble import Ensemble
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.models.surgery.wrappers import unwrapped
from dfad_fast.runs.whole_files import make_folder, write_tensors
from dfad_fast.sources.folder.reading import read_images
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.recorded.measuring import Detail, measure_record
from dfad_fast.sources.recorded.record import Record

_BATCH = 256


def write_record(
    settings: DistillSettings, images: str | None, out: str, detail: Detail, overwrite: bool = False
) -> Record:
    """Writes a record of a teacher's activations to ``out``, a .safetensors file.

    Runs the teacher that ``settings`` name on the images at ``images``, a folder or an .npz, or by default on the
    training images of its dataset.

    Raises UsageError if there are no images, ``out`` exists, or the teacher is an ensemble, and RunError if the file
    cannot be written.
    """
    path = Path(out)
    if path.suffix != ".safetensors":
        raise UsageError(f"a record is a .safetensors file, got {out}: use --out NAME.safetensors")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} already exists: give another place with --out, or --overwrite")
    if images is None and settings.dataset is None:
        raise UsageError(
            "no images to record: give --images FOLDER|FILE.npz, or --dataset for its training images"
        )
    run_plugins(settings)
    device = choose_device(settings.device)
    dataset = load_dataset(settings.dataset, settings.data_dir) if settings.dataset else None
    make_folder(path.parent)  # before the long part, so that an error comes early
    teacher = build_teacher(settings, dataset, device, "train")
    if isinstance(teacher.network, Ensemble):
        raise UsageError("a record describes one network: give the weights of one member only")
    pixels, form = _pixels(settings, images, dataset, teacher)
    network = unwrapped(teacher.network)
    kind = image_dtype(network)

    def batches() -> Iterator[Tensor]:
        for part in pixels.split(_BATCH):
            yield form.normalize(part.to(device).float() / 255).to(kind)

    record = measure_record(network, teacher.image_shape, batches(), detail, settings.seed)
    write_tensors(path, record.tensors(), record.header())
    return record


def _pixels(
    settings: DistillSettings, images: str | None, dataset: Dataset | None, teacher: Teacher
) -> tuple[Tensor, ImageForm]:
    """The images as bytes [N, C, H, W], and the normalization of the teacher's images."""
    form = ImageForm(teacher.image_shape, *normalization_of(settings, dataset))
    if form.normalization is None:
        raise UsageError("a record needs the normalization of the teacher's images: give --mean and --std")
    if images is not None:
        return read_images(images, teacher.image_shape, 0, np.random.default_rng(0)).pixels, form
    assert dataset is not None
    if not len(dataset.train_images):
        raise UsageError(f"{dataset.name} has only test images: give the training images with --images")
    if dataset.image_shape != teacher.image_shape:
        raise UsageError(
            f"{dataset.name} has images {list(dataset.image_shape)}, but the teacher takes "
            f"{list(teacher.image_shape)}: give images of the teacher's shape"
        )
    return dataset.train_images, form
