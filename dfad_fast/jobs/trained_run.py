"""Loads a run's networks from its folder, finished or interrupted. Changes nothing in the folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfad_fast.data import Dataset, load_dataset
from dfad_fast.engine.choice import choose_method, source_of
from dfad_fast.engine.generators import generator_of
from dfad_fast.engine.iterations import source_at_rest
from dfad_fast.errors import UsageError
from dfad_fast.jobs.config import read_config
from dfad_fast.jobs.devices import choose_device
from dfad_fast.jobs.networks import (
    Pair,
    build_pair,
    find_test_set,
    normalization_of,
    refuse_other_teacher,
    run_plugins,
)
from dfad_fast.jobs.own_test_images import is_path
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.jobs.trained_weights import best_iteration, load_trained_weights, refuse_nothing_saved
from dfad_fast.models.black_box import BlackBoxTeacher
from dfad_fast.models.generators.sampling import sample_batches
from dfad_fast.networks.trio import Trio
from dfad_fast.runs.config_file import recorded_config
from dfad_fast.runs.layout import AVERAGED, BEST, GENERATOR, STUDENT, folder_of
from dfad_fast.sources import ImageForm, Source
from dfad_fast.terms import reads_features


@dataclass(frozen=True)
class TrainedRun:
    """What a run's folder holds, in eval mode."""

    folder: Path
    config: DistillSettings
    """The run's own settings, with the current paths."""
    method: str
    seed: int
    iteration: int | None
    """None if the checkpoint that records it is gone."""
    planned_iterations: int | None
    networks: Trio
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...] | None
    """With ``std``, the normalization of the teacher's images per channel; None if the run does not record it."""
    std: tuple[float, ...] | None
    connectors_trained: bool
    makes_images: bool
    """Whether images that no step saw are available, from a generator or from the source itself."""
    source: Source | None
    """None if the images come from the generator."""
    latent_dim: int
    batch_size: int
    test_set: Dataset | None
    no_test_set: str
    """Why there is no test set."""
    best_iteration: int | None = None
    """The iteration of the student if it is the best one, not the last."""

    @property
    def device(self) -> torch.device:
        """The student's device."""
        return next(self.networks.student.parameters()).device

    def generated(self, count: int, seed: int) -> Tensor:
        """All images of ``generated_batches`` in one tensor [count, C, H, W]."""
        return torch.cat(list(self.generated_batches(count, seed)))

    def generated_batches(self, count: int, seed: int) -> Iterator[Tensor]:
        """At most ``count`` different images that no step saw, in batches [n, C, H, W].

        They are the source's own, or generated from noise by ``seed``. Needs ``makes_images``.
        """
        if self.source is not None:
            count = self.source.held_out_count(count)
            if (own := self.source.held_out(count, self.batch_size)) is not None:
                return own
        dtype = next(self.networks.student.parameters()).dtype
        # 2, since a run draws the noise of its steps from its seed and its held-out noise from [seed, 1].
        drawn_from = int(np.random.SeedSequence([seed, 2]).generate_state(1)[0])
        source = torch.Generator(self.device).manual_seed(drawn_from)
        return sample_batches(
            self.networks.generator,
            count,
            self.batch_size,
            lambda size: torch.randn(
                size, self.latent_dim, generator=source, device=self.device, dtype=dtype
            ),
        )

    def real(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Test images [N, C, H, W] and labels [N]: ``count`` drawn by ``seed``, or all. Needs ``test_set``."""
        assert self.test_set is not None
        source = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(self.test_set.test_images), generator=source)[:count]
        drawn = replace(
            self.test_set,
            test_images=self.test_set.test_images[rows],
            test_labels=self.test_set.test_labels[rows],
        )
        return next(drawn.test_batches(count, self.device))


def load_run(
    path: str | Path,
    dataset: str | None = None,
    data_dir: str | None = None,
    teachers: str | None = None,
    device: str = "auto",
    real_images_needed: bool = False,
    averaged: bool = False,
    best: bool = False,
) -> TrainedRun:
    """Reads the run in folder ``path``.

    Args:
        path: the run's folder.
        dataset: the dataset whose test images to use, instead of those that the run was evaluated on.
        data_dir: where the dataset is now, if it was moved.
        teachers: where the teachers are now, if they were moved.
        device: where the networks compute; by default a GPU if there is one.
        real_images_needed: whether test images that cannot be read are an error instead of being left out.
        averaged: whether to load the moving average of the student.
        best: whether to load the best student at the run's evaluations, see
            :class:`dfad_fast.engine.best.BestStudent`.

    Raises:
        UsageError: there is no run, or it has saved nothing, or not that student; or its teacher or data is missing or
            not the one that it was started with. Nothing is trained or downloaded.
    """
    if averaged and best:
        raise UsageError("--averaged and --best select different students: give only one of them")
    folder = folder_of(path)
    given = {"data_dir": data_dir, "teachers": teachers, "device": device}
    changes = {key: value for key, value in given.items() if value is not None}
    config = DistillSettings(**{**read_config(path), **changes})
    refuse_nothing_saved(folder)
    run_plugins(config)
    own_dataset = load_dataset(config.dataset, config.data_dir) if config.dataset else None
    pair = build_pair(config, own_dataset, choose_device(config.device), "refuse")
    refuse_other_teacher(pair, folder)
    if isinstance(pair.teacher, BlackBoxTeacher):
        pair.teacher.queries.close()
    known = own_dataset or _evaluated(config)
    mean, std = normalization_of(config, known)
    form = ImageForm(pair.image_shape, mean, std)
    batch_size = _batch_size(config, folder)
    networks = _with_generator(pair, config, form, batch_size)
    method = choose_method(
        config.method,
        networks,
        config.student_terms,
        config.generator_terms,
        config.source,
        config.student_steps,
    )
    which = AVERAGED if averaged else BEST if best else STUDENT
    checkpoint = load_trained_weights(networks, folder, which)
    shown = replace(config, evaluate=dataset or config.evaluate)
    test_set, no_test_set = _test_set(shown, known, pair, real_images_needed)
    for network in (networks.teacher, networks.student, networks.connectors):
        network.eval()
    generates = bool(method.source_spec.generating)
    source = None if generates else source_at_rest(networks, method, form, batch_size, config.seed)
    if source is not None and checkpoint is not None and "source" in checkpoint:
        # With replay the source's state is nested in the state of the replayed batches.
        source.recall(checkpoint["source"]["source"] if config.replay else checkpoint["source"])
    return TrainedRun(
        folder=folder,
        config=config,
        method=method.name,
        seed=config.seed,
        iteration=checkpoint["iteration"] if checkpoint else None,
        planned_iterations=checkpoint["planned_iterations"] if checkpoint else None,
        best_iteration=best_iteration(checkpoint, folder) if best else None,
        networks=networks,
        image_shape=pair.image_shape,
        mean=mean,
        std=std,
        # The connectors belong to the last student.
        connectors_trained=checkpoint is not None and not best and reads_features(method.student),
        makes_images=not method.source_spec.minimizing
        or checkpoint is not None
        or (generates and (folder / GENERATOR).is_file()),
        source=source,
        latent_dim=config.latent_dim,
        batch_size=batch_size,
        test_set=test_set,
        no_test_set=no_test_set,
    )


def _with_generator(pair: Pair, config: DistillSettings, form: ImageForm, batch_size: int) -> Trio:
    source = source_of(config.method, config.source)
    generator = generator_of(config.generator, source, form, config.latent_dim, pair.classes, batch_size)
    return Trio(
        pair.teacher,
        pair.student,
        generator.to(next(pair.student.parameters()).device),
        pair.image_shape,
        config.taps_teacher,
        config.taps_student,
    )


def _evaluated(config: DistillSettings) -> Dataset | None:
    """The dataset that the run was evaluated on, if it has a name and can be read."""
    if config.evaluate is None or is_path(config.evaluate):
        return None
    try:
        return load_dataset(config.evaluate, config.data_dir)
    except UsageError:
        return None


def _batch_size(config: DistillSettings, folder: Path) -> int:
    """The batch size of all the run's processes together, which cannot be derived from ``batch_per_process`` alone."""
    recorded = recorded_config(folder).get("batch_size")
    return recorded if isinstance(recorded, int) and recorded > 0 else config.batch_size


def _test_set(
    config: DistillSettings, dataset: Dataset | None, pair: Pair, needed: bool
) -> tuple[Dataset | None, str]:
    """The test images, or why there are none."""
    try:
        test_set = find_test_set(config, dataset, pair)
    except UsageError as error:
        if needed:
            raise
        return None, str(error)
    return test_set, "" if test_set else "the run names no dataset; give one with --dataset"
