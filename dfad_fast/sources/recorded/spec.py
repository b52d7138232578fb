"""The declaration of images that are optimized to be as a record says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfad_fast.sources.recorded.settings import RecordedSettings
from dfad_fast.sources.recorded.source import RecordedSource
from dfad_fast.sources.source import Plan, Source, Workbench


@dataclass(frozen=True)
class Recorded(RecordedSettings):
    """Images that are optimized so that the teacher's features are as the record at ``path`` says.

    ``dfad-fast record`` wrote the record where the teacher's data is. There is no generator. Each batch begins as
    normal noise, and takes ``steps`` of Adam with the rate ``lr`` on its pixels. They minimize the mean square of the
    distance from the features that were drawn for them (``draws``: ``clusters`` or ``classes``, see
    :class:`dfad_fast.sources.recorded.targets.Targets`), in units of the features' variance; ``layers`` times the
    distance of the batch's mean and variance per channel from the recorded ones, at each stage; and ``smooth`` times
    the mean difference between neighboring pixels. Pixels stay between 0 and 1 where the normalization is known.

    It is costly, and belongs under a bank: ``bank(recorded(path='FILE'), images=4096)``. Held-out images are made in
    the same way from other noise. In an ensemble the features are the first member's.

    Raises UsageError for values out of range.
    """

    name: ClassVar[str] = "recorded"
    needs_teacher_gradient: ClassVar[bool] = True

    def check_files(self) -> None:
        self.read()

    def make(self, bench: Workbench, plan: Plan) -> Source:
        """Raises UsageError where there is no record, or one of another teacher; at rest only once images are made."""
        return RecordedSource(self, bench, plan)
