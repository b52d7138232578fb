"""The declaration of a generator that begins anew for each batch."""

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
    """Batches of images that a generator is trained for: ``steps`` steps for each, from a new beginning.

    The form that CMI (arXiv 2105.08584), FastDFKD (arXiv 2112.06253) and NAYER (arXiv 2310.00258) share. In a round the
    generator, by Adam with the recipe's rate, minimizes the method's generator's terms on one batch of noise, whose
    labels are balanced over the classes; the images of the step with the lowest loss are the batch. It takes the place
    of the method's generator's steps, and belongs under a bank: ``bank(restarted(steps=10))``.

    ``restart`` is where the generator's weights begin:

    * ``meta``: where few steps make good images of any batch, which is learned over the rounds (first-order MAML);
    * ``whole``: new weights, every ``every`` rounds, drawn as ``weights`` says: ``uniform``, torch's own way, or
      ``normal``, DCGAN's;
    * ``first``: the same of its first layer alone;
    * ``none``: where the last round left them.

    ``lowest=False`` hands out the images of the last step instead. ``lr_noise`` is the rate at which the noise itself
    is trained, 0 for not at all. ``memory`` is the share of former rounds in the batch norm statistics that terms read.
    Images are shown to the teacher moved by up to ``shift`` of their sides, and half of them mirrored where ``flip``.

    ``vectors`` makes the generator NAYER's: ``random`` class vectors, or those of a .npy, .npz or .safetensors file
    [classes, D], through noisy layers that are drawn anew for each batch.

    ``features`` is how many images' features are kept for the term ``contrast``, of which each step sees ``compared``.

    Held-out images are what the generator makes of other noise as the last round left it. Labels, weights and moves are
    drawn on the host, so that no CUDA graph holds such an iteration. Raises UsageError for values out of range.
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
                f"restarted: with vectors the noise has at least {NoisyGenerator.told} values, which say class and "
                f"noisy layer, got latent_dim {latent_dim}"
            )
        vectors = (
            random_class_vectors(classes)
            if self.vectors == "random"
            else read_class_vectors(self.vectors, classes)
        )
        return NoisyGenerator(generator, vectors, latent_dim, layers=-(-batch_size // classes))

    def make(self, bench: Workbench, plan: Plan) -> Source:
        if self.vectors and not isinstance(bench.prober.trio.generator, NoisyGenerator):
            raise UsageError(
                "restarted: vectors are for the generator that it makes itself: leave --generator out"
            )
        return RestartedSource(self, bench, plan)
