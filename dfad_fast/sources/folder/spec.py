"""The declaration of a folder of images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from dfad_fast.errors import UsageError
from dfad_fast.sources.augmenting import parse_augment
from dfad_fast.sources.balancing import refuse_repeats
from dfad_fast.sources.folder.shown import FolderSource
from dfad_fast.sources.source import Plan, Source, Workbench
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class Folder(SourceSpec):
    """Unlabeled images of any origin at ``path``.

    ``path`` is a folder of image files, with its subfolders, or an .npz with ``images``, see
    :func:`dfad_fast.sources.folder.reading.read_images`. The images are cropped and resized to the teacher's image
    shape and normalized like its images. A tenth is held out from all steps.

    The teacher runs once on each. ``balance`` then shows all classes that it finds equally often (Nayak et al., WACV
    2021, arXiv 2011.09113: arbitrary images distill if balanced in this way), but no image more than ``repeats`` times
    as often as without. ``augment``: words joined by "-", see :func:`dfad_fast.sources.augmenting.draw_views`; the
    teacher answers the augmented images. If there are more than ``limit`` images, and ``limit`` is not 0, that many are
    drawn.

    Raises UsageError for unknown words and for numbers out of range.
    """

    name: ClassVar[str] = "folder"
    reads_given_images: ClassVar[bool] = True

    path: str = ""
    augment: str = "shift-cutmix-mix"
    balance: bool = True
    repeats: float = 10.0
    limit: int = 0

    def __post_init__(self) -> None:
        parse_augment(self.augment)
        refuse_repeats(self.name, self.repeats)
        if self.limit < 0:
            raise UsageError(f"folder: limit must be at least 0, got {self.limit}")
        if self.path:  # absolute, so that a run resumed from another folder finds it
            object.__setattr__(self, "path", os.path.abspath(os.path.expanduser(self.path)))

    @property
    def paths(self) -> tuple[str, ...]:
        return ("path",)

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """Raises UsageError if there are no images to read."""
        if not self.path:
            raise UsageError(
                "folder needs the path of a folder of images, or of an .npz: folder(path='IMAGES')"
            )
        return FolderSource(
            bench, plan, self.path, self.augment, self.repeats if self.balance else 1.0, self.limit
        )
