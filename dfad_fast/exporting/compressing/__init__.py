"""A student made smaller after distillation: pruned, or with binary or ternary weights, and tuned without data."""

from dfad_fast.exporting.compressing.compress import Compression as Compression
from dfad_fast.exporting.compressing.compress import CompressionSettings as CompressionSettings
from dfad_fast.exporting.compressing.compress import compress as compress
