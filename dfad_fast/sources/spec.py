"""The declaration of a source of the student's images, with its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self

    from dfad_fast.sources.form import ImageForm
    from dfad_fast.sources.source import Plan, Source, Workbench


@dataclass(frozen=True)
class SourceSpec:
    """Declares a source of the student's images: a frozen dataclass whose fields are its settings.

    A setting is a number, a word, or True or False, and has a default. ``name`` is its name in text, such as in
    ``bank(fresh, images=25600)``. A source that takes its images from another sets ``wraps = True`` and has the other
    as its first field, ``of``, without a default.
    """

    name: ClassVar[str] = ""
    wraps: ClassVar[bool] = False
    can_be_captured: ClassVar[bool] = False
    """Whether each iteration runs the same operations on the same shapes, as a CUDA graph requires."""
    trains_generator: ClassVar[bool] = False
    """Whether the run's generator makes its images and is trained meanwhile."""
    optimizes_images: ClassVar[bool] = False
    """Whether it optimizes the images themselves by the generator's terms, without a generator."""
    needs_generator_step: ClassVar[bool] = False
    """Whether it needs a method with at least one generator step."""
    shares_batches: ClassVar[bool] = False
    """Whether the lever ``student_batches`` may change the batches of the student's steps."""
    needs_teacher_gradient: ClassVar[bool] = False
    """Whether its generator's gradients flow through the teacher."""
    tells_images_apart: ClassVar[bool] = False
    """Whether the generator's terms must return a value per image."""
    gives_labels: ClassVar[bool] = False
    """Whether its generator gets a class to make, so that its terms may read the labels."""
    decodes: ClassVar[bool] = False
    """Whether decoders read the noise back from its images, so that its terms may compare both."""
    reads_given_images: ClassVar[bool] = False
    """Whether the user provides its images."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Its settings that name a file or folder, empty for none."""
        return ()

    def check_files(self) -> None:
        """Raises UsageError if one of them is missing or damaged, before a teacher is trained for nothing."""

    @property
    def draws_weights(self) -> bool:
        """Whether it gives the generator new weights during the run."""
        return False

    @property
    def begins_generator(self) -> bool:
        """Whether this source sets the generator's initial weights, so that weights learned elsewhere are lost."""
        return False

    @property
    def gives_contrast(self) -> bool:
        """Whether it compares its images with earlier ones, so that its terms may read the result."""
        return False

    def create_generator(
        self, form: ImageForm, latent_dim: int, classes: int, batch_size: int, fused: bool
    ) -> nn.Module | None:
        """The generator that ``auto`` selects for this source, for noise [B, latent_dim]; None for the default one.

        Its weights come from torch's global generator. ``fused``: whether its layers may run as one op.
        """
        return None

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """Creates the running source."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[SourceSpec, ...]:
        """The sources of its images, if it does not make them itself."""
        of = getattr(self, "of", None)
        return () if of is None else (of,)

    def with_parts(self, parts: tuple[SourceSpec, ...]) -> Self:
        """A copy with other ``parts``."""
        changed: dict[str, Any] = {"of": parts[0]} if parts else {}
        return replace(self, **changed)

    def with_paths(self, change: Callable[[str], str]) -> Self:
        """A copy with ``change`` applied to the paths of all its parts."""
        changed = {name: change(getattr(self, name)) for name in self.paths if getattr(self, name)}
        own = replace(self, **changed)
        return own.with_parts(tuple(part.with_paths(change) for part in own.parts))

    def walk(self) -> Iterator[SourceSpec]:
        """Itself and all its parts, at any depth."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @property
    def generating(self) -> list[SourceSpec]:
        """Its parts that train the run's generator."""
        return [part for part in self.walk() if part.trains_generator]

    @property
    def minimizing(self) -> list[SourceSpec]:
        """Its parts that minimize the generator's terms, with or without a generator."""
        return [part for part in self.walk() if part.trains_generator or part.optimizes_images]

    def __str__(self) -> str:
        """Text for :func:`parse_source`; leaves out settings with their default values."""
        inside = [str(part) for part in self.parts]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "of" and value != field.default:
                inside.append(f"{field.name}={_written(value)}")
        return f"{self.name}({', '.join(inside)})" if inside else self.name


def _written(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else repr(value)
