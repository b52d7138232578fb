"""The options that several commands take."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/benchmarks"),
    show_default=True,
)


@dataclass(frozen=True)
class Options:
    """The options of every measuring command."""

    quick: bool
    device: str
    threads: int
    out: Path

    def __post_init__(self) -> None:
        # Imported late, so that the command line responds before torch is loaded.
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise click.ClickException("--device cuda: torch sees no GPU here")


def measuring(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options and passes them to the command as one argument."""

    @click.option("--quick", is_flag=True, help="Few cases, few rounds: under 3 minutes on 2 cores.")
    @click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
    @click.option(
        "--threads", type=click.IntRange(min=1), help="Threads of each contender; by default all cores."
    )
    @out_option
    @functools.wraps(command)
    def wrapped(quick: bool, device: str, threads: int | None, out: Path, **others: Any) -> None:
        command(Options(quick, device, threads or os.cpu_count() or 1, out), **others)

    return wrapped


def fail_if(lost: list[str]) -> None:
    """Ends the command with an error if contenders failed that must not fail."""
    if lost:
        raise click.ClickException(f"failed, see above: {', '.join(dict.fromkeys(lost))}")
