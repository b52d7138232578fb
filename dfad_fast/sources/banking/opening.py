"""Plans a bank's size, its segments and its location."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dfad_fast.distributed import processes
from dfad_fast.errors import UsageError
from dfad_fast.sources.banking.answering import Answering
from dfad_fast.sources.banking.sealed import Limits
from dfad_fast.sources.banking.store import Store
from dfad_fast.sources.banking.view_table import WIDTH
from dfad_fast.sources.source import Workbench

_SEGMENT = 1024
_FEWEST_SEGMENTS = 8


@dataclass(frozen=True)
class Keeping:
    """At most ``images`` images, chosen by ``keep``, with ``views`` views each by ``augment``, stored as ``store``.

    With ``repeats`` the teacher's classes are balanced, see :class:`dfad_fast.sources.balancing.Choice`.
    """

    images: int
    views: int
    augment: str
    keep: str
    store: str
    repeats: float | None = None


def open_store(
    keeping: Keeping, bench: Workbench, dtype: torch.dtype, ask: Callable[[Tensor], Tensor]
) -> tuple[Store, list[str]]:
    """The empty store and its notices, one line each.

    Raises UsageError for fewer images than a batch, and if a bank is too large for memory and has no folder.
    """
    batch = bench.batch_size
    if keeping.images < batch:
        raise UsageError(
            f"bank: images must be at least a batch of {batch}, got {keeping.images}: keep more, or use smaller "
            "batches"
        )
    segment = max(batch, min(_SEGMENT, keeping.images // _FEWEST_SEGMENTS) // batch * batch)
    size, storage = _bytes(keeping, segment, bench), bench.storage
    in_state = size <= storage.memory
    notices = []
    if not in_state:
        told = f"a bank of {keeping.images:,} images may take {size / 2**30:.2f} GiB"
        if processes.count() > 1:
            raise UsageError(
                f"{told}, and with several processes it must fit in memory: keep fewer, or raise bank_memory"
            )
        if not storage.is_there:
            raise UsageError(
                f"{told}: give the run a folder (out) to store it in, keep fewer, or raise bank_memory"
            )
        notices.append(f"{told}: it is stored in the run's folder")
    answering = Answering(
        ask,
        keeping.views,
        keeping.augment,
        batch,
        bench.device,
        dtype,
        torch.float16 if keeping.store == "half" else torch.float32,
    )
    limits = Limits(keeping.images, segment, keeping.keep, labeled=keeping.repeats is not None)
    store = Store(limits, keeping.store, answering, bench.seed, storage, in_state, keeping.repeats)
    return store, notices


def _bytes(keeping: Keeping, segment: int, bench: Workbench) -> int:
    """The most it can take, see :class:`Sealed`."""
    channels, height, width = bench.form.shape
    half = keeping.store == "half"
    pixels = channels * (2 * height * width if half else height * width + 8)
    view = 4 * WIDTH + (2 if half else 4) * bench.prober.trio.classes
    alive = (keeping.images + segment) * (pixels + keeping.views * view)
    return alive if keeping.keep == "age" else 2 * alive
