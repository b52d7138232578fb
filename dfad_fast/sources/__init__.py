"""Where the student's images come from, one file per place."""

from dfad_fast.sources.adversarial import AdversarialGenerator, FreshNoise, GeneratorsBatch, SameNoise
from dfad_fast.sources.averaged_generator import AveragedGenerator
from dfad_fast.sources.replay import Replay
from dfad_fast.sources.source import Batch, Plan, Source, Turn, Workbench

SOURCES: dict[str, type[AdversarialGenerator]] = {
    "fresh": FreshNoise,
    "same noise": SameNoise,
    "generator's": GeneratorsBatch,
}
"""By the name that a method's ``batches`` has."""

__all__ = [
    "SOURCES",
    "AdversarialGenerator",
    "AveragedGenerator",
    "Batch",
    "FreshNoise",
    "GeneratorsBatch",
    "Plan",
    "Replay",
    "SameNoise",
    "Source",
    "Turn",
    "Workbench",
]
