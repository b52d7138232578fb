"""The declaration of generators that are trained first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from dfad_fast.errors import UsageError
from dfad_fast.models.generators.decoded import DecodedGenerators, Decoder
from dfad_fast.models.generators.dfad import DFADGenerator
from dfad_fast.models.generators.registry import auto_width
from dfad_fast.sources.form import ImageForm
from dfad_fast.sources.source import Plan, Source, Workbench
from dfad_fast.sources.trained_first.settings import TrainedFirstSettings
from dfad_fast.sources.trained_first.source import TrainedFirstSource


@dataclass(frozen=True)
class TrainedFirst(TrainedFirstSettings):
    """Batches that ``generators`` conditional generators make, each trained for ``steps`` steps before the student.

    Each is trained with a decoder that reads the noise out of its images again: the form of KegNet ("Knowledge
    Extraction with No Observable Data", Yoo et al. 2019, NeurIPS). Until the generators are trained, an iteration takes
    the method's generator steps, each generator on a batch of its own, and no step of the student. After that the
    generators stay as they are, and each image is made by one of them. The first two values of its noise say its label
    and its generator; decoders read the others, so that ``latent_dim`` is at least 3.

    Held-out images are made of other noise. Raises UsageError for values out of range.
    """

    name: ClassVar[str] = "trained_first"
    trains_generator: ClassVar[bool] = True
    needs_teacher_gradient: ClassVar[bool] = True
    needs_generator_step: ClassVar[bool] = True
    gives_labels: ClassVar[bool] = True
    decodes: ClassVar[bool] = True

    @property
    def begins_generator(self) -> bool:
        return True  # no other source may change what is trained

    def create_generator(
        self, form: ImageForm, latent_dim: int, classes: int, batch_size: int, fused: bool
    ) -> nn.Module:
        """Those of DFAD, with the published decoders."""
        length = latent_dim - DecodedGenerators.told
        if length < 1:
            raise UsageError(
                "trained_first: the noise has at least 3 values, which say class and generator and which decoders "
                f"read, got latent_dim {latent_dim}"
            )
        width = auto_width(form.shape)
        return DecodedGenerators(
            [DFADGenerator(form.shape, classes + length, width, fused) for _ in range(self.generators)],
            [Decoder(form.shape, length) for _ in range(self.generators)],
            classes,
        )

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """Raises UsageError for a generator of another kind, or of another number of members."""
        generator = bench.prober.trio.generator
        if not isinstance(generator, DecodedGenerators):
            raise UsageError(
                "trained_first trains generators with decoders, which it makes itself: leave --generator out (in "
                "Python, generator= may be a DecodedGenerators)"
            )
        if len(generator.members) != self.generators:
            raise UsageError(
                f"trained_first: generators is {self.generators}, and the generator that was given has "
                f"{len(generator.members)}: give the same number"
            )
        return TrainedFirstSource(self, generator, bench, plan)
