"""Compiles the Triton kernels and reports registers, spills, shared memory and bytes per load. Needs no GPU.

    python benchmarks/run.py aot --json benchmarks/results/aot.json

Every launcher is called as in real use. Its launches are intercepted and compiled for each target.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from benchmarks.aot.targets import TARGETS


@click.command("aot")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Result file; a .md table is written next to it.",
)
@click.option("--target", "targets", multiple=True, type=click.Choice(list(TARGETS)), help="Default: all.")
def command(json_file: Path | None, targets: tuple[str, ...]) -> None:
    """Compile every kernel for every target and print the result."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise click.UsageError("TRITON_INTERPRET=1 is set: nothing would be compiled")
    import triton

    from benchmarks.aot.cases import CASES, DTYPES
    from benchmarks.aot.compiling import figures
    from benchmarks.aot.report import markdown, print_table

    rows = [
        figures(case, dtype, target) for case in CASES for dtype in DTYPES for target in targets or TARGETS
    ]
    print_table(rows)
    if json_file:
        json_file.write_text(json.dumps({"triton": triton.__version__, "kernels": rows}, indent=1) + "\n")
        json_file.with_suffix(".md").write_text(markdown(rows) + "\n")
