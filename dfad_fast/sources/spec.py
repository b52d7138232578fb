"""The declaration of a source: which place the student's images come from, and its settings."""

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
    """One place that the student's images come from, as it is declared: a frozen dataclass, whose fields are its
    settings (numbers, words, or True and False, each with a default).

    ``name`` is what it is called in text, as in ``bank(fresh, images=25600)``. One that takes its images from another
    source says ``wraps = True``, and has that one as its first field, ``of``, without a default.
    """

    name: ClassVar[str] = ""
    wraps: ClassVar[bool] = False
    can_be_captured: ClassVar[bool] = False
    """Whether an iteration is the same operations on the same shapes each time, as a CUDA graph needs it."""
    trains_generator: ClassVar[bool] = False
    """Whether it is the run's generator that makes its images, and learns while it does."""
    optimizes_images: ClassVar[bool] = False
    """Whether it optimizes its images themselves, by the generator's terms, without any generator."""
    needs_generator_step: ClassVar[bool] = False
    """Whether it can do nothing for a method without a generator's step."""
    shares_batches: ClassVar[bool] = False
    """Whether the lever ``student_batches`` may give the student's steps other batches than it hands out."""
    needs_teacher_gradient: ClassVar[bool] = False
    """Whether its generator learns by gradients that flow through the teacher."""
    tells_images_apart: ClassVar[bool] = False
    """Whether the generator's terms have to say what each image's part of them is."""
    gives_labels: ClassVar[bool] = False
    """Whether its generator is told which class to make, so that its terms may read the labels."""
    decodes: ClassVar[bool] = False
    """Whether decoders read the noise out of its images again, so that its terms may compare both."""
    reads_given_images: ClassVar[bool] = False
    """Whether its images are somebody's own, and not made."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of its settings that name a file or folder, empty for none."""
        return ()

    @property
    def draws_weights(self) -> bool:
        """Whether it gives the generator new weights while the run goes on."""
        return False

    @property
    def begins_generator(self) -> bool:
        """Whether the generator begins with weights of this source's, so that what it learned elsewhere is lost."""
        return False

    @property
    def gives_contrast(self) -> bool:
        """Whether it compares its images with former ones, so that its terms may read what that found."""
        return False

    def create_generator(
        self, form: ImageForm, latent_dim: int, classes: int, batch_size: int, fused: bool
    ) -> nn.Module | None:
        """The generator that ``auto`` means with it, for noise [B, latent_dim], its weights from torch's global
        generator; None: the same as ever. ``fused``: whether its layers may run as one op."""
        return None

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """The source at work."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[SourceSpec, ...]:
        """The sources that its images come from, where it does not make them itself."""
        of = getattr(self, "of", None)
        return () if of is None else (of,)

    def with_parts(self, parts: tuple[SourceSpec, ...]) -> Self:
        """The same with other ``parts``."""
        changed: dict[str, Any] = {"of": parts[0]} if parts else {}
        return replace(self, **changed)

    def with_paths(self, change: Callable[[str], str]) -> Self:
        """The same with other paths, in all that it is made of."""
        changed = {name: change(getattr(self, name)) for name in self.paths if getattr(self, name)}
        own = replace(self, **changed)
        return own.with_parts(tuple(part.with_paths(change) for part in own.parts))

    def walk(self) -> Iterator[SourceSpec]:
        """Itself, and all that it is made of."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @property
    def generating(self) -> list[SourceSpec]:
        """What of it trains the run's generator."""
        return [part for part in self.walk() if part.trains_generator]

    @property
    def minimizing(self) -> list[SourceSpec]:
        """What of it minimizes the generator's terms, by a generator or without."""
        return [part for part in self.walk() if part.trains_generator or part.optimizes_images]

    def __str__(self) -> str:
        """As :func:`parse_source` reads it; settings that have their default are left out."""
        inside = [str(part) for part in self.parts]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "of" and value != field.default:
                inside.append(f"{field.name}={_written(value)}")
        return f"{self.name}({', '.join(inside)})" if inside else self.name


def _written(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else repr(value)
