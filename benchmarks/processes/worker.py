"""A process that ``run.py processes`` starts: it runs iterations and counts the data that it sends to the others."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.step.cases import PAIRS
from benchmarks.step.loops import make_trainer
from dfad_fast import DFADTrainer
from dfad_fast.distributed import collectives, processes

LEAST_ITERATIONS = 3
PARTS = 6  # a batch is a multiple of this, so that two and three processes get equal parts


@contextmanager
def counted_bytes() -> Iterator[Counter[str]]:
    """Bytes that this process passes to each kind of collective outside of DistributedDataParallel."""
    found: Counter[str] = Counter()
    originals = {name: getattr(dist, name) for name in ("all_reduce", "all_gather", "all_to_all_single")}

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if "group" not in kwargs:  # groups are used between hosts, for a few bytes only
                given: Tensor = args[0] if name == "all_reduce" else args[1]
                found[name] += given.nbytes
                found[f"{name} calls"] += 1
            return original(*args, **kwargs)

        return call

    for name, original in originals.items():
        setattr(dist, name, counting(name, original))
    try:
        yield found
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def count_gradients(trainer: DFADTrainer) -> Counter[str]:
    """Starts to count the bytes of gradients."""
    found: Counter[str] = Counter()

    # No annotations: torch compares them with types, but here they would be strings.
    def hook(state, bucket):  # type: ignore[no-untyped-def]
        found["gradients"] += bucket.buffer().nbytes
        found["gradients calls"] += 1
        return allreduce_hook(state, bucket)

    distiller = trainer.distiller
    for owner in (distiller._schedule.whole, distiller.source):
        loss = getattr(owner, "_averaged_loss", None)
        if isinstance(loss, DistributedDataParallel):
            loss.register_comm_hook(None, hook)
    return found


def main() -> None:
    name, method, sync, threads, seconds, out = sys.argv[1:]
    processes.join(600.0)
    torch.set_num_threads(int(threads))
    pair = PAIRS[name]
    pair = replace(pair, batch_size=pair.batch_size // PARTS * PARTS)
    trainer = make_trainer(pair, method, "exact", sync_batch_norm=sync == "sync")
    gradients = count_gradients(trainer)
    trainer.step()
    gradients.clear()
    with counted_bytes() as others:
        trainer.step()
    said = {**gradients, **others}
    taken: list[float] = []
    begun = time.perf_counter()
    # The same number of iterations in every process.
    while collectives.any_of(len(taken) < LEAST_ITERATIONS or time.perf_counter() - begun < float(seconds))[
        0
    ]:
        started = time.perf_counter()
        trainer.step()
        collectives.any_of(True)  # waits until all processes have finished the step
        taken.append(time.perf_counter() - started)
    if processes.is_first():
        images = trainer.images_per_iteration
        Path(out).write_text(json.dumps({"seconds": taken, "images": images, "said": said}))
    processes.leave()


if __name__ == "__main__":
    main()
