"""Where the student's images come from, one file per place. A new source is its file and one line here."""

# isort: skip_file
from dfad_fast.sources.source import Batch as Batch
from dfad_fast.sources.source import Plan as Plan
from dfad_fast.sources.source import Source as Source
from dfad_fast.sources.source import Turn as Turn
from dfad_fast.sources.source import Workbench as Workbench
from dfad_fast.sources.replay import Replay as Replay
from dfad_fast.sources.averaged_generator import AveragedGenerator as AveragedGenerator

from dfad_fast.sources.adversarial import AdversarialGenerator as AdversarialGenerator
from dfad_fast.sources.adversarial import FreshNoise as FreshNoise
from dfad_fast.sources.adversarial import SameNoise as SameNoise
from dfad_fast.sources.adversarial import GeneratorsBatch as GeneratorsBatch

SOURCES: dict[str, type[Source]] = {
    value.name: value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Source) and value.name
}
"""By the name that a method's ``batches`` has."""
