from io import StringIO

from rich.console import Console

from dfad_fast.exporting import Export, Variant
from dfad_fast.exporting.measuring import Latency
from dfad_fast.exporting.table import print_export


def test_times_of_a_second_and_more_are_told_in_seconds():
    times = {1: Latency(999.4, 3), 2: Latency(999.6, 3), 64: Latency(12345.0, 3)}
    variants = [Variant("net", path, 1024, 0.0, 1.0, None, times) for path in (None, "net.onnx")]
    out = StringIO()
    print_export(
        Console(file=out),
        Export("run", "onnx", {}, "generated", None, "", 8, None, 1.0, 1e-4, variants, 1, "cpu", {}),
    )
    rows = [line.split() for line in out.getvalue().splitlines() if line.startswith("net ")]
    assert [row[-6:] for row in rows] == 2 * [["999", "ms", "1", "s", "12.3", "s"]]
