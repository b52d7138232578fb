"""The declaration of images that are optimized themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfad_fast.sources.inverted.settings import InvertedSettings
from dfad_fast.sources.inverted.source import InvertedSource
from dfad_fast.sources.source import Plan, Source, Workbench


@dataclass(frozen=True)
class Inverted(InvertedSettings):
    """Batches of images that are optimized themselves: ``steps`` steps of Adam for each, without generator.

    The form of DeepInversion (Yin et al. 2020, arXiv 1912.08795). In a round a batch of images, whose labels are
    balanced over the classes, minimizes the method's generator's terms by Adam with the recipe's rate; what the step
    with the lowest loss began with is the batch. It takes the place of the method's generator's steps, and belongs
    under a bank: ``bank(inverted(steps=100))``.

    ``lowest=False`` hands out the images of the last step instead. In each step the teacher sees the batch rolled by
    whole pixels, up to ``shift`` of its sides, and mirrored half of the times where ``flip``: 0.0625 is DeepInversion's
    jitter of 2 pixels at 32, and 0.134 that of 30 at 224. The first ``half`` of the steps show the images at half
    resolution, as means of 2 x 2 pixels, to a teacher that takes such images; such pixels begin alike, since these
    steps could not remove the noise between them. Adam then begins anew.

    ``start="procedural"`` starts from the drawings of ``procedural`` that fit the teacher, instead of noise: a few
    steps then lead to images that are varied and show their labels' classes.

    Held-out images are a batch of their own, made before the first one; until then no step has changed them. Jitter and
    noise are drawn on the host, so that no CUDA graph holds such an iteration.

    Raises UsageError for values out of range.
    """

    name: ClassVar[str] = "inverted"
    optimizes_images: ClassVar[bool] = True
    needs_generator_step: ClassVar[bool] = True
    needs_teacher_gradient: ClassVar[bool] = True
    gives_labels: ClassVar[bool] = True

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """Raises UsageError for a teacher that does not take the images at half resolution, where it is to."""
        return InvertedSource(self, bench, plan)
