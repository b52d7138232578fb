"""The cases of ``run.py step``: pairs of networks, and the loops that train them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from dfad_fast.engine.recipe import Recipe
from dfad_fast.networks.levers import PLAIN, Levers

TRAINERS_SHARE = 0.5  # of the published loop's memory; 0.46 was the largest that was measured


@dataclass(frozen=True)
class Pair:
    """A teacher, a student, and their batches of images.

    Attributes:
        generator: the trainer's name of the generator.
        bytes_per_image: measured memory of the published loop per image of a batch, with the pinned allocator; it needs
            the most of all loops.
        unpinned: whether it is also measured with the C library's default allocator.
        gpu_batch_size: the published batch size, if it was reduced for CPUs.
    """

    name: str
    teacher: str
    student: str
    image_shape: tuple[int, int, int]
    latent_dim: int
    batch_size: int
    recipe: Recipe
    generator: str = "dfad"
    bytes_per_image: int = 0
    unpinned: bool = False
    gpu_batch_size: int | None = None

    @property
    def label(self) -> str:
        return f"{self.teacher} -> {self.student}, batch {self.batch_size}"

    def memory_needed(self, loop: str) -> int:
        """A conservative estimate for one more loop of this kind, in bytes."""
        published = self.batch_size * self.bytes_per_image
        return published if loop == "faithful" else int(TRAINERS_SHARE * published)


# The published optimizers, with learning rates so small that rounding errors do not grow before losses are compared.
PAIRS = {
    pair.name: pair
    for pair in (
        Pair(
            "lenet", "lenet5", "lenet5-half", (1, 32, 32), 100, 512,
            Recipe("sgd", student_lr=1e-3, student_weight_decay=1e-4, generator_lr=1e-5),
            bytes_per_image=13 * 2**20, unpinned=True,
        ),
        Pair(
            "fashion", "resnet10-w16", "resnet10-w8", (1, 28, 28), 100, 128,
            Recipe("sgd", student_lr=1e-3, student_weight_decay=5e-4, generator_lr=1e-5), generator="auto",
            bytes_per_image=13 * 2**20,
        ),
        Pair(
            "resnet20", "resnet20", "resnet20-w8", (3, 32, 32), 256, 128,
            Recipe("sgd", student_lr=1e-3, student_weight_decay=5e-4, generator_lr=1e-5),
            bytes_per_image=25 * 2**20,
        ),
        Pair(
            "resnet", "resnet34", "resnet18", (3, 32, 32), 256, 64,
            Recipe("sgd", student_lr=1e-4, student_weight_decay=5e-4, generator_lr=1e-5),
            bytes_per_image=89 * 2**20, gpu_batch_size=256,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One way to run a method.

    Attributes:
        loop: the published loop, or this library's trainer.
        speed: the trainer's ``speed``; None for the published loop, which uses its networks unchanged.
        exact: whether its losses must equal the published loop's.
        against: the contender that runs plain dfad in the same way, to determine the cost of the method.
        pairs: names of the pairs on which it is measured.
        races: the races in which it takes part. All contenders of a race are in memory at once and take turns.
        allocators: allocators of the C library in the first of the races, see :mod:`benchmarks.measuring.process`.
        devices: the devices on which it differs from the other contenders.
    """

    name: str
    loop: Literal["faithful", "trainer"]
    method: str = "dfad"
    speed: Any = None
    exact: bool = True
    against: str | None = None
    pairs: tuple[str, ...] = tuple(PAIRS)
    races: tuple[str, ...] = ("levers",)
    allocators: tuple[str, ...] = ("pinned",)
    devices: tuple[str, ...] = ("cpu", "cuda")


FAITHFUL, EXACT = "faithful", "exact"
RACES = ("speeds", "levers", "method")
BOTH_ALLOCATORS = ("pinned", "default")
LENET_ONLY = ("lenet",)
CPU_ONLY = ("cpu",)


def _lever(
    name: str,
    exact: bool = False,
    pairs: tuple[str, ...] = tuple(PAIRS),
    devices: tuple[str, ...] = ("cpu", "cuda"),
    **settings: Any,
) -> Contender:
    return Contender(
        name, "trainer", speed=replace(Levers(), **settings), exact=exact, pairs=pairs, devices=devices
    )


def _method(name: str, loop: Literal["faithful", "trainer"], speed: Any, against: str) -> Contender:
    return Contender(
        f"{name} dfad-ar-vi", loop, "dfad-ar-vi", speed, against=against, pairs=LENET_ONLY, races=("method",)
    )


CONTENDERS = (
    Contender(FAITHFUL, "faithful", races=RACES, allocators=BOTH_ALLOCATORS),
    Contender(EXACT, "trainer", speed="exact", races=RACES, allocators=BOTH_ALLOCATORS),
    Contender("auto", "trainer", speed="auto", exact=False, races=("speeds",), devices=("cuda",)),
    Contender("fast", "trainer", speed="fast", exact=False, races=("speeds",)),
    Contender("no levers", "trainer", speed=PLAIN, races=("speeds",)),
    _lever("exact, no fused generator", exact=True, devices=CPU_ONLY, fused_generator=False),
    _lever("exact, no Winograd", exact=True, devices=CPU_ONLY, winograd=False),
    _lever("exact, no direct convolutions", exact=True, devices=CPU_ONLY, direct_convolutions=False),
    _lever("exact, teacher not folded", exact=True, pairs=LENET_ONLY, fold_teacher=False),
    _lever("exact + torch.compile", exact=True, compile=True),
    # Only for the smaller pair, because all contenders of a race are in memory at once.
    _lever("exact + sampling together", pairs=LENET_ONLY, sample_together=True),
    _lever("exact + one batch an iteration", pairs=LENET_ONLY, student_batches=1),
    _lever("exact + bfloat16", pairs=LENET_ONLY, precision="bfloat16"),
    _method("faithful", "faithful", None, FAITHFUL),
    _method("exact", "trainer", "exact", EXACT),
    _method("exact, two forwards,", "trainer", Levers(one_student_batch=False), EXACT),
)
