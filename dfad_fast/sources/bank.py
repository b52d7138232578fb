"""A bank of what another source makes: kept with the teacher's answers, so that a student's step asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.sources.augmenting import parse_augment
from dfad_fast.sources.banking import FORMS, KEEPING
from dfad_fast.sources.banking.opening import Keeping
from dfad_fast.sources.banking.source import BankSource, Filling
from dfad_fast.sources.source import Plan, Source, Workbench
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class Bank(SourceSpec):
    """At most ``images`` of what the source ``of`` makes, which the student is shown over and over: each once before
    any comes again, in an order that begins anew with each segment of new images. ``new`` batches are added in an
    iteration; with 0 nothing is made once the bank is filled.

    The student's first step waits until ``prefill`` images are there, or a segment of them; with new=0 until the bank
    is full, unless ``prefill`` says less. Each image is kept with ``views`` of itself, the first one as it is, the
    others as the words of ``augment`` say (see :func:`dfad_fast.sources.augmenting.draw_views`), and with the teacher's
    logits for them. With 0 views none are kept: new ones are drawn, and the teacher is asked, in each step. It is asked
    too where the student's terms read its features.

    By age an image is shown so many times as an iteration has student's steps for each new batch: more views than that
    are asked in vain.

    ``keep`` says which images stay: those of the least ``age``; ``random``, at any time a uniform draw from all that
    came; ``balanced`` over the teacher's classes; or the ``hardest`` for the student, by the mean absolute difference
    of its logits from the teacher's when it last saw them. ``store``: in ``uint8``, each channel of an image by its own
    range, or in ``half`` precision.

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
        parse_augment(self.augment)
        if self.keep not in KEEPING:
            raise unknown_name("way to keep images", self.keep, KEEPING)
        if self.store not in FORMS:
            raise unknown_name("form of stored images", self.store, FORMS)

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """Raises UsageError for fewer images than a batch, and for a bank that has no room."""
        filling = Filling(self.of, self.new, self.prefill or (1 if self.new else self.images))
        keeping = Keeping(self.images, self.views, self.augment, self.keep, self.store)
        return BankSource(filling, keeping, bench, plan)
