"""Tiny cases of every op, and how fast they are measured."""

from benchmarks.measuring.settings import Settings
from benchmarks.ops.problems import Case

STAGES = ((4, 3, 5, 5), (4, 6, 3, 3))
TINY = {
    "boundary_hinge_loss": STAGES,
    "boundary_hinge_loss packed": STAGES,
    "batch_norm_act": STAGES[:1],
    "batch_norm_statistics_loss": STAGES,
    "pack_signs": ((4, 16),),
    "virtual_batch": ((6, 3, 5, 5), (6, 10)),
    "mixup": ((6, 3, 5, 5),),
    "narrow_conv2d": ((4, 8, 6, 6), (8, 8, 3, 3)),
    "narrow_conv2d stride 2": ((4, 8, 6, 6), (16, 8, 3, 3)),
}
FAST = Settings(threads=1, rounds=3, warm_seconds=0.0, timed_seconds=0.001, answer_seconds=120.0)


def tiny(op, **flags):
    return Case(op, TINY.get(op, ((7, 10),)), "tiny", **flags)


def silent(done, of, name):
    pass
