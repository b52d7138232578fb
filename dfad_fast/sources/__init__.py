"""The sources of the student's images, one file each. A new source is a file and one line here."""

# isort: skip_file
from collections.abc import Mapping as _Mapping

from dfad_fast.errors import UsageError as _UsageError
from dfad_fast.sources.expression import parse_source as _parse_source
from dfad_fast.sources.form import ImageForm as ImageForm
from dfad_fast.sources.mixture import Mixture as Mixture
from dfad_fast.sources.mixture import Share as Share
from dfad_fast.sources.source import Batch as Batch
from dfad_fast.sources.source import Plan as Plan
from dfad_fast.sources.source import Source as Source
from dfad_fast.sources.source import Turn as Turn
from dfad_fast.sources.source import Workbench as Workbench
from dfad_fast.sources.spec import SourceSpec as SourceSpec
from dfad_fast.sources.replay import Replay as Replay
from dfad_fast.sources.averaged_generator import AveragedGenerator as AveragedGenerator

from dfad_fast.sources.bank import Bank as Bank
from dfad_fast.sources.adversarial import Fresh as Fresh
from dfad_fast.sources.adversarial import SameNoise as SameNoise
from dfad_fast.sources.adversarial import GeneratorsBatch as GeneratorsBatch
from dfad_fast.sources.estimated import Estimated as Estimated
from dfad_fast.sources.replayed import Replayed as Replayed
from dfad_fast.sources.folder import Folder as Folder
from dfad_fast.sources.procedural.source import Procedural as Procedural
from dfad_fast.sources.restarted import Restarted as Restarted
from dfad_fast.sources.trained_first import TrainedFirst as TrainedFirst
from dfad_fast.sources.inverted import Inverted as Inverted
from dfad_fast.sources.recorded import Recorded as Recorded

SOURCES: dict[str, type[SourceSpec]] = {
    value.name: value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, SourceSpec) and value.name
}
"""The sources by their names in text."""


def as_source(source: str | SourceSpec, known: _Mapping[str, type[SourceSpec]] = SOURCES) -> SourceSpec:
    """The given source, or the one that the text declares: see :func:`dfad_fast.sources.expression.parse_source`.

    Raises UsageError for anything else, and for text that declares none.
    """
    if isinstance(source, str):
        return _parse_source(source, known)
    if not isinstance(source, SourceSpec):
        raise _UsageError(
            f"source must be text such as 'bank(fresh)' or a dfad_fast.sources.SourceSpec, got {source!r}"
        )
    return source
