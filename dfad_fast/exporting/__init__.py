"""``dfad-fast export``: hands over the student of a run as a file that needs none of its code, or nothing but it."""

from dfad_fast.exporting.exporting import export
from dfad_fast.exporting.result import Export, Int8Failed, Variant

__all__ = ["Export", "Int8Failed", "Variant", "export"]
