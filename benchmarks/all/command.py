"""The command line of ``run.py all``."""

from __future__ import annotations

from dataclasses import replace

import click

from benchmarks.measuring.options import Options, fail_if, measuring
from benchmarks.ops import command as ops
from benchmarks.step import command as step
from benchmarks.train import command as train

IMAGES = 38_400  # for train, which takes half an hour even so


@click.command("all")
@measuring
def command(options: Options) -> None:
    """Measure ops, step and train, each into a separate folder in --out.

    Shorter than the separate commands: train generates 38,400 images per run, and ops skips half precision on the CPU.
    --quick: ops without torch.compile and without the default allocator.
    """
    into_ops, into_step, into_train = (
        replace(options, out=options.out / name) for name in ("ops", "step", "train")
    )
    fail_if(
        [
            *ops.measure(
                into_ops,
                with_compile=not options.quick,
                unpinned=not options.quick,
                halves=options.device == "cuda",
            ),
            *step.measure(into_step),
            *train.measure(into_train, images=None if options.quick else IMAGES),
        ]
    )
