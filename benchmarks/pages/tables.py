"""Tables and plots for a page from result files; ``run.py pages`` inserts them between their markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.results import OURS, Results, Unreadable, load, origin
from benchmarks.measuring.tables import size
from benchmarks.ops.heats import Heat, heats
from benchmarks.ops.registry import BOTH
from benchmarks.train import report as train_report

OPS = {
    "hinge, stage 64x64x32x32": "boundary_hinge_loss stage 64x64x32x32 float32",
    "hinge, the four stages of a ResNet, batch 64": "boundary_hinge_loss ResNet stages, batch 64 float32",
    "hinge, 2^26 elements (beyond the cache)": "boundary_hinge_loss 2^26 float32",
    "L1, [256, 10]": "l1_discrepancy [256, 10] float32",
    "L1, 2^20 elements": "l1_discrepancy 2^20 float32",
    "L1, 2^22 elements": "l1_discrepancy 2^22 float32",
    "KL, [256, 100]": "kl_discrepancy [256, 100] float32",
    "interpolated L1, [256, 100]": "interpolated_l1 [256, 100] float32",
    "batch norm + residual + ReLU, [128, 32, 14, 14]": "batch_norm_act 128x32x14x14 float32",
    "the same, [128, 64, 32, 32] (beyond the cache)": "batch_norm_act 128x64x32x32 float32",
    "batch norm statistics loss, ResNet-10, batch 128": (
        "batch_norm_statistics_loss ResNet-10 layers, batch 128 float32"
    ),
    "convolution 3x3, 8 to 8 channels, [128, 8, 28, 28]": "narrow_conv2d 8 to 8, 3x3, 28x28, batch 128 float32",
    "virtual batch, [256, 3, 32, 32] and [256, 100]": "virtual_batch 256x3x32x32 + 256x100 float32",
}
STEP = {
    "published loop, `dfad`": ("faithful", "pinned"),
    "no levers": ("no levers", "pinned"),
    "`exact`": ("exact", "pinned"),
    "`fast` (a sixth of the images)": ("fast", "pinned"),
    "published loop, default allocator": ("faithful", "default"),
    "`exact`, default allocator": ("exact", "default"),
    "published loop, `dfad-ar-vi`": ("faithful dfad-ar-vi", "pinned"),
    "`exact`, `dfad-ar-vi`": ("exact dfad-ar-vi", "pinned"),
}


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _times(heat: Heat, names: Sequence[str]) -> str:
    """The time of the fastest of these over ours."""
    there = [name for name in names if name in heat.rows]
    fastest = min(there, key=lambda name: heat.rows[name]["median_seconds"], default=None)
    ratio = heat.speedup(fastest) if fastest else None
    return "" if ratio is None else f"{ratio:.1f}x"


def ops(results: Results) -> str:
    found = {heat.case: heat for heat in heats(results) if (heat.mode, heat.allocator) == (BOTH, "pinned")}
    lines = []
    for label, case in OPS.items():
        if (heat := found.get(case)) and OURS in heat.rows:
            rivals = (["eager, published"], ["eager, best"], ["compile, best", "compile, tuned"])
            milliseconds = f"{1e3 * heat.rows[OURS]['median_seconds']:.3g}"
            lines.append([label, milliseconds, *(_times(heat, names) for names in rivals)])
    table = _table(["ms", "dfad_fast", "eager, published", "eager, best", "torch.compile, best"], lines)
    plot = "![speed-up over the rivals by size](../../benchmarks/results/ops/speedup.png)"
    return f"{table}\n\n{_origin(results)}\n\n{plot}"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    note = ""
    if "cost_of_method" in row:
        note = f" ({row['cost_of_method']:.2f} times `dfad`)"
    elif "speedup" in row and row["contender"] != "faithful":
        note = f" ({row['speedup']:.1f}x)"
    return f"{row['median_seconds']:.3g}{note}"


def step(results: Results) -> str:
    pairs = [pair["name"] for pair in results["pairs"]]
    # A contender's first race counts.
    found = {
        (row["pair"], row["contender"], row["allocator"]): row
        for row in reversed(results["rows"])
        if "median_seconds" in row
    }

    lines = [[label, *(_cell(found.get((pair, *who))) for pair in pairs)] for label, who in STEP.items()]
    peaks = (
        [
            size(row["peak_bytes"]) if (row := found.get((pair, name, "pinned"))) else "-"
            for name in ("faithful", "exact")
        ]
        for pair in pairs
    )
    lines.append(["peak memory: published loop, `exact`", *(", ".join(both) for both in peaks)])
    labels = [pair["label"] for pair in results["pairs"]]
    table = _table(["seconds per iteration (times the published loop's speed)", *labels], lines)
    return f"{table}\n\n{_origin(results)}"


def train(results: Results) -> str:
    sheet = train_report.sheet(results)
    intro = (
        f"Time to accuracy on {results['job']['dataset']}: seconds of training and generated images until the student "
        "held a share of the teacher's accuracy for three evaluations in a row, every contender for "
        f"{results['job']['images']:,} images; accuracies in percent, mean ± deviation over "
        f"{len(results['job']['seeds'])} seeds. Made by `{results['command']}`."
    )
    plot = "![accuracy over seconds of training](../../benchmarks/results/train/accuracy.png)"
    return f"{intro}\n\n{_table(sheet.columns, sheet.lines)}\n\n{_origin(results)}\n\n{plot}"


def _origin(results: Results) -> str:
    cut = "" if results["complete"] else " The run was interrupted."
    return f"{origin(results)}{cut} [All figures](../../benchmarks/results/{results['kind']}/{results['kind']}.md)."


TABLES: dict[str, Callable[[Results], str]] = {"ops": ops, "step": step, "train": train}


def fill(text: str, folder: Path) -> str:
    """``text`` with the tables of ``folder``/KIND/KIND.json between ``<!-- KIND -->`` and ``<!-- end -->``.

    A table stays unchanged if its file is missing. Raises Unreadable if a file holds no results.
    """
    for kind, table in TABLES.items():
        file = folder / kind / f"{kind}.json"
        if file.exists():
            if f"<!-- {kind} -->\n" not in text:
                raise Unreadable(f"there is no line <!-- {kind} --> for the table of {file}")
            body = f"<!-- {kind} -->\n{table(load(file))}\n<!-- end -->"
            text = re.sub(
                rf"<!-- {kind} -->\n.*?<!-- end -->", body.replace("\\", r"\\"), text, flags=re.DOTALL
            )
    return text
