"""Compares each convolution algorithm with torch's, layer by layer, on the CPU.

    python benchmarks/run.py convolutions --threads 1             # about 2 minutes
    python benchmarks/run.py convolutions --networks resnet20-w8

It runs the layers of the networks on a batch of 128 images, and the algorithms take turns. The rule in
dfad_fast/models/surgery/convolutions.py is based on these results. Prints the table (Markdown) and writes it to
OUT/convolutions.md, and the figures to OUT/convolutions.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

_NETWORKS = "resnet8-w32,resnet10-w8,resnet10-w16,resnet20-w8,resnet20,wrn-16-2,resnet18"


@click.command("convolutions")
@click.option(
    "--networks", default=_NETWORKS, show_default=True, help="The package's networks, separated by commas."
)
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads; by default all cores.")
@click.option("--out", default="benchmarks/results/convolutions", show_default=True)
def command(networks: str, rounds: int, threads: int | None, out: str) -> None:
    """Race algorithms for convolutions, layer by layer."""
    import torch

    from benchmarks.convolutions.layers import layers_of
    from benchmarks.convolutions.races import measure
    from benchmarks.convolutions.report import sheet
    from benchmarks.measuring.machine import describe
    from dfad_fast.allocator import pin_allocator

    if threads:
        torch.set_num_threads(threads)
    pin_allocator()
    machine = describe("cpu")
    rows = []
    for layer in layers_of(networks.split(",")):
        click.echo(str(layer), err=True)
        rows.append(measure(layer, rounds))
    text = sheet(rows).markdown()
    text += (
        f"\n{machine['cpu']}, {torch.get_num_threads()} threads, torch {machine['versions']['torch']}; quickest of "
        f"{rounds} rounds. Bold: the trainer's choice. d: narrow_conv2d; t: narrow_conv2d by tiles; w: "
        "winograd_conv2d.\n"
    )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "convolutions.json").write_text(
        json.dumps({"machine": machine, "layers": rows}, indent=2) + "\n"
    )
    (folder / "convolutions.md").write_text(text)
    click.echo(text)
