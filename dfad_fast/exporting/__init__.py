"""``dfad-fast export``: writes the student of a run to a file that runs without its code, or as weights for it."""

from dfad_fast.exporting.compressing import Compression, CompressionSettings, compress
from dfad_fast.exporting.exporting import export
from dfad_fast.exporting.result import Export, Int8Failed, Variant

__all__ = ["Compression", "CompressionSettings", "Export", "Int8Failed", "Variant", "compress", "export"]
