"""A bank of another source's images, stored with the teacher's answers so that student steps do not run the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.sources.augmenting import parse_augment
from dfad_fast.sources.balancing import refuse_repeats
from dfad_fast.sources.banking import FORMS, KEEPING
from dfad_fast.sources.banking.opening import Keeping
from dfad_fast.sources.banking.source import BankSource, Filling
from dfad_fast.sources.source import Plan, Source, Workbench
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class Bank(SourceSpec):
    """Stores at most ``images`` images from the source ``of`` and shows them to the student in epochs.

    In an epoch each image is shown once before any repeats, in an order that restarts with each segment of new images.
    Each iteration adds ``new`` batches; with 0 it makes no images once the bank is full.

    ``balance`` shows each class that the teacher finds in the bank as often as the others, but no image more than
    ``repeats`` times as often as without (Nayak et al., WACV 2021, arXiv 2011.09113). Images are then drawn with
    replacement.

    The student's first step waits until the bank holds ``prefill`` images, or a segment of them; with new=0 until the
    bank is full, unless ``prefill`` is smaller. Each image is stored with ``views`` views and the teacher's logits for
    them: the first view is the image itself, the others are drawn according to ``augment`` (see
    :func:`dfad_fast.sources.augmenting.draw_views`). With 0 views only the images are stored: each step draws new views
    and runs the teacher. The teacher also runs if the student's terms read its features.

    With keep=age, an image is shown as often as an iteration has student steps per new batch: further views are never
    used.

    ``keep`` says which images stay: ``age`` keeps the newest; ``random`` a uniform draw from all images so far;
    ``balanced`` equally many of each of the teacher's classes; ``hardest`` those with the largest mean absolute
    difference between the student's and the teacher's logits when the student last saw them. ``store``: ``uint8``,
    scaled to each channel's range in each image, or ``half`` precision.

    Raises UsageError for numbers out of range and unknown words.
    """

    name: ClassVar[str] = "bank"
    wraps: ClassVar[bool] = True

    of: SourceSpec
    images: int = 25600
    new: int = 1
    prefill: int = 0
    views: int = 4
    augment: str = "flip-shift"
    keep: str = "age"
    store: str = "uint8"
    balance: bool = False
    repeats: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.of, SourceSpec):
            raise UsageError(f"bank: of must be a source, such as Fresh(), got {self.of!r}")
        if self.images < 1:
            raise UsageError(f"bank: images must be at least 1, got {self.images}")
        for name in ("new", "prefill", "views"):
            if getattr(self, name) < 0:
                raise UsageError(f"bank: {name} must be at least 0, got {getattr(self, name)}")
        if self.prefill > self.images:
            raise UsageError(
                f"bank: prefill must be at most images, {self.images}, got {self.prefill}: it would never be reached"
            )
        refuse_repeats(self.name, self.repeats)
        parse_augment(self.augment)
        if self.keep not in KEEPING:
            raise unknown_name("way to keep images", self.keep, KEEPING)
        if self.store not in FORMS:
            raise unknown_name("form of stored images", self.store, FORMS)

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """Creates the bank.

        Raises UsageError for fewer images than a batch, and for a bank that has room neither in memory nor in a folder.
        """
        filling = Filling(self.of, self.new, self.prefill or (1 if self.new else self.images))
        repeats = self.repeats if self.balance else None
        keeping = Keeping(self.images, self.views, self.augment, self.keep, self.store, repeats)
        return BankSource(filling, keeping, bench, plan)
