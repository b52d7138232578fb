"""``dfad-fast export``: hands over the student of a run as a file that needs none of its code, or nothing but it."""

from dfad_fast.exporting.compressing import Compression, CompressionSettings, compress
from dfad_fast.exporting.exporting import export
from dfad_fast.exporting.result import Export, Int8Failed, Variant

__all__ = ["Compression", "CompressionSettings", "Export", "Int8Failed", "Variant", "compress", "export"]
