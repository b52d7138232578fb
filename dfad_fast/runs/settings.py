"""The settings of a run beside those that change its result: what it writes, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from dfad_fast.engine.settings import DistillerSettings
from dfad_fast.settings import COUNT, Limits, setting


@dataclass(eq=False, repr=False)
class RunSettings(DistillerSettings):
    """All settings of a run that go into ``DFADTrainer``."""

    out: str | Path | None = setting(
        None,
        "The run's folder.",
        details="None keeps everything in memory. fit locks it, so that no other process or trainer writes to it "
        "meanwhile, and fails if one did since the trainer was created or since its last fit.",
        option=str,
        changes_result=False,
        profiled=False,
    )
    _: KW_ONLY
    checkpoint_seconds: float = setting(
        60.0,
        "Minimum seconds between checkpoints.",
        details="The first one is written after 5 seconds, or after the first iteration that ends later.",
        limits=Limits(least=0),
        after="speed",
        changes_result=False,
        profiled=False,
    )
    keep_checkpoints: int = setting(
        2,
        "Number of checkpoints to keep.",
        details="A resumed run uses the last intact one.",
        limits=Limits(1, 1000),
        after="checkpoint_seconds",
        changes_result=False,
        profiled=False,
    )
    checkpoint_iterations: int | None = setting(
        None,
        "Also write a checkpoint each time this number of iterations has passed.",
        limits=COUNT,
        after="keep_checkpoints",
        changes_result=False,
        profiled=False,
    )
    bank_memory: float = setting(
        1.0,
        "GiB of memory for a bank of images; a larger bank is stored in the run's folder.",
        details="See dfad_fast.sources.Bank.",
        limits=Limits(least=0),
        metavar="GIB",
        after="checkpoint_iterations",
        changes_result=False,
        profiled=False,
    )
    log: Sequence[str] = setting(
        (),
        "Also write the records to csv, tensorboard, wandb or mlflow; may be given several times.",
        details="See dfad_fast.reporting.loggers.",
        option=tuple[str, ...],
        multiple=True,
        metavar="NAME",
        after="sync_batch_norm",
        changes_result=False,
        profiled=False,
    )
