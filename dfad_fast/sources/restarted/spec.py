"""The declaration of a generator that restarts for each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.generators.class_vectors import random_class_vectors, read_class_vectors
from dfad_fast.models.generators.noisy import NoisyGenerator
from dfad_fast.models.generators.pixels import PixelGenerator
from dfad_fast.models.generators.registry import auto_width
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.restarted.settings import RestartedSettings
from dfad_fast.sources.restarted.source import RestartedSource
from dfad_fast.sources.source import Plan, Source, Workbench


@dataclass(frozen=True)
class Restarted(RestartedSettings):
    """Batches of images from a generator that restarts for each batch and trains for ``steps`` steps.

    The form shared by CMI (arXiv 2105.08584), FastDFKD (arXiv 2112.06253) and NAYER (arXiv 2310.00258). In a round the
    generator minimizes the method's generator terms on one batch of noise, by Adam with the recipe's rate; the labels
    are balanced over the classes. The images of the step with the lowest loss are the batch. The rounds replace the
    method's generator steps. Use the source inside a bank: ``bank(restarted(steps=10))``.

    ``restart`` sets the generator's initial weights:

    * ``meta``: weights from which a few steps give good images for any batch, learned over the rounds (first-order
        MAML);
    * ``whole``: new weights every ``every`` rounds, drawn according to ``weights``: ``uniform`` as in torch, or
        ``normal`` as in DCGAN;
    * ``first``: the same for the first layer only;
    * ``none``: the weights after the last round.

    ``lowest=False`` returns the images of the last step instead. ``lr_noise`` is the learning rate of the noise itself;
    0 does not train it. ``memory`` is the share of earlier rounds in the batch norm statistics that terms read. The
    teacher sees the images moved by up to ``shift`` of their sides and, with ``flip``, half of them mirrored.

    ``vectors`` selects NAYER's generator: ``random`` class vectors, or those of a .npy, .npz or .safetensors file
    [classes, D], go through noisy layers that are redrawn for each batch.

    ``features`` is the number of images whose features are kept for the term ``contrast``; each step sees ``compared``
    of them.

    Held-out images come from the generator after the last round, with other noise. Labels, weights and moves are drawn
    on the host, so a CUDA graph cannot capture such an iteration. Raises UsageError for values out of range.
    """

    name: ClassVar[str] = "restarted"
    trains_generator: ClassVar[bool] = True
    needs_teacher_gradient: ClassVar[bool] = True
    needs_generator_step: ClassVar[bool] = True
    gives_labels: ClassVar[bool] = True

    @property
    def paths(self) -> tuple[str, ...]:
        return () if self.vectors == "random" else ("vectors",)

    @property
    def draws_weights(self) -> bool:
        return self.restart in ("whole", "first")

    @property
    def begins_generator(self) -> bool:
        return self.restart in ("meta", "whole")

    @property
    def gives_contrast(self) -> bool:
        return self.features > 0

    def create_generator(
        self, form: ImageForm, latent_dim: int, classes: int, batch_size: int, fused: bool
    ) -> nn.Module:
        generator = PixelGenerator(form.shape, latent_dim, auto_width(form.shape), fused, form.normalization)
        if not self.vectors:
            return generator
        if latent_dim < NoisyGenerator.told:
            raise UsageError(
                f"restarted: with vectors the noise needs at least {NoisyGenerator.told} values, which choose "
                f"class and noisy layer, got latent_dim {latent_dim}"
            )
        vectors = (
            random_class_vectors(classes)
            if self.vectors == "random"
            else read_class_vectors(self.vectors, classes)
        )
        return NoisyGenerator(generator, vectors, latent_dim, layers=-(-batch_size // classes))

    def make(self, bench: Workbench, plan: Plan) -> Source:
        if self.vectors and not isinstance(bench.prober.trio.generator, NoisyGenerator):
            raise UsageError("restarted: vectors need its own generator: leave --generator out")
        return RestartedSource(self, bench, plan)
