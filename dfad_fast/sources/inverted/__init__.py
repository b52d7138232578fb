"""Images that are optimized themselves, without any generator."""

from dfad_fast.sources.inverted.spec import Inverted as Inverted
