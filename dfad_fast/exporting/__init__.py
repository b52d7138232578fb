"""``dfad-fast export``: hands over the student of a run as a file that needs none of its code, or nothing but it."""

from dfad_fast.exporting.exporting import Export, Variant, export

__all__ = ["Export", "Variant", "export"]
