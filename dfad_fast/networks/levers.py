"""What makes a step fast: one switch each, and three presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import torch

from dfad_fast.errors import UsageError, unknown_name

Precision = Literal["float32", "bfloat16", "float16"]
TeacherPrecision = Literal["same", "measured", "float32", "bfloat16"]

SPEEDS = ("auto", "exact", "fast")


@dataclass(frozen=True)
class Levers:
    """The switches. The first six keep the published mathematics and are on by default.

    Attributes:
        fold_teacher: folds the frozen teacher's batch norm layers into the convolutions before them. Networks that
            cannot be folded stay as they are, with a notice.
        fused_generator: runs batch norm, LeakyReLU, upsampling and convolution of the trainer's own generator as one
            op, with a quarter of the multiplications (dfad_fast.ops.generator_block). A generator passed by the user
            keeps its own setting. CPU and float32 only, off elsewhere.
        fused_norms: runs each batch norm layer of the student, the generator and the unfolded teacher as one op,
            together with the addition and the ReLU or LeakyReLU module that follow, unless a hook reads in between
            (dfad_fast.ops.batch_norm_act). CPU only, off elsewhere; off if several processes share the statistics.
        winograd: runs 3x3 convolutions of stride 1 and at least 8 channels by Winograd's minimal filtering, with a
            quarter of the multiplications (dfad_fast.ops.winograd_conv2d; narrow_conv2d for few channels), together
            with the addition and activation that follow, as for fused_norms. A teacher's wider weights are transformed
            once: later changes to them have no effect. An infinite feature becomes NaN, and second derivatives raise an
            error. CPU and float32 only, off elsewhere.
        direct_convolutions: runs 3x3 convolutions of fewer channels, and 3x3 and 1x1 ones of few channels and stride 2,
            by dfad_fast.ops.narrow_conv2d in the same way. CPU and float32 only, off elsewhere.
        pin_allocator: on glibc, keeps freed memory for the next step (mallopt, for the whole process). The command line
            does this itself; in Python call dfad_fast.pin_allocator().
        one_student_batch: passes the images and the terms' mixtures of them through the student as one batch, so that
            its batch norm layers see both together. None: only if that makes no difference, such as without these
            layers.
        precision: the networks' compute type, by autocast; with float16 the losses are scaled. Losses, weights and the
            optimizers' state stay float32.
        teacher_precision: the teacher's compute type: the same, float32 or bfloat16. ``measured`` times both when a run
            begins (CPU only), takes bfloat16 if it saves a tenth of a batch's time, and records the choice.
        compile: uses torch.compile for networks whose features no term reads.
        graph: runs the whole iteration as one CUDA graph (GPU only). Host code in the networks, such as hooks, runs
            only until the graph is captured in the fourth iteration.
        sample_together: generates the batches of all student steps in one pass, so that the generator's batch norm
            layers see them together.
        student_batches: how many batches the student's steps of an iteration share. None is one for each step, as
            published. With 0 they learn from the batch of the generator's step, which then comes first, as in ZSKT
            (arXiv 1905.09768). The teacher answers each batch once.
    """

    fold_teacher: bool = True
    fused_generator: bool = True
    fused_norms: bool = True
    winograd: bool = True
    direct_convolutions: bool = True
    pin_allocator: bool = True
    one_student_batch: bool | None = None
    precision: Precision = "float32"
    teacher_precision: TeacherPrecision = "same"
    compile: bool = False
    graph: bool = False
    sample_together: bool = False
    student_batches: int | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("precision", Precision), ("teacher_precision", TeacherPrecision)):
            if getattr(self, name) not in get_args(kinds):
                raise unknown_name(name, str(getattr(self, name)), get_args(kinds))
        if self.student_batches is not None and self.student_batches < 0:
            raise UsageError(f"student_batches must be at least 0, got {self.student_batches}")
        if self.sample_together and self.student_batches == 0:
            raise UsageError("sample_together has nothing to sample if student_batches is 0: choose one")

    def describe(self) -> dict[str, str]:
        """Each lever and its setting as text."""
        none = {"student_batches": "one per step", "one_student_batch": "where it is the same"}
        described = {}
        for name, value in asdict(self).items():
            if isinstance(value, bool):
                described[name] = "on" if value else "off"
            else:
                described[name] = none[name] if value is None else str(value)
        return described

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype to autocast to; None for float32."""
        return None if self.precision == "float32" else getattr(torch, self.precision)

    @property
    def of_teacher(self) -> Levers:
        """The levers for the teacher."""
        own = self.teacher_precision
        return replace(self, precision=own) if own in ("float32", "bfloat16") else self

    @property
    def by_fused_norms(self) -> bool:
        """Whether batch norm layers run as one op; torch.compile fuses its own."""
        return self.fused_norms and not self.compile

    @property
    def by_winograd(self) -> bool:
        """Whether 3x3 convolutions use Winograd's filtering; torch.compile and autocast choose their own kernels."""
        return self.winograd and not self.compile and self.autocast is None

    @property
    def by_direct_convolutions(self) -> bool:
        """Whether convolutions of few channels use this package's op, under the same conditions."""
        return self.direct_convolutions and not self.compile and self.autocast is None


PLAIN = Levers(
    fold_teacher=False,
    fused_generator=False,
    fused_norms=False,
    winograd=False,
    direct_convolutions=False,
    pin_allocator=False,
)
"""All of them off."""


def choose_levers(speed: str | Levers, device: torch.device) -> Levers:
    """The levers of the named speed.

    ``exact``: the published mathematics in float32. ``auto``: the same, in bfloat16 if this machine multiplies matrices
    several times faster in it (AMX, or a GPU's tensor cores), and on a GPU as a CUDA graph. ``fast``: in addition, the
    student's steps of an iteration share the generator's batch, which saves the sampling and all but one of the
    teacher's forward passes.

    Raises UsageError for an unknown name, for a value that is no name, and for levers that this machine lacks.
    """
    if isinstance(speed, Levers):
        if speed.graph and device.type != "cuda":
            raise UsageError(f"graph needs a GPU, and the networks are on {device.type}: leave it off")
        if speed.teacher_precision == "measured" and device.type != "cpu":
            raise UsageError(
                f"teacher_precision=measured is for the CPU, and the networks are on {device.type}: choose float32 or "
                "bfloat16"
            )
        return _without_effectless(speed, device)
    if not isinstance(speed, str):
        raise UsageError(f"speed must be {', '.join(SPEEDS)} or a dfad_fast.Levers, got {speed!r}")
    if speed not in SPEEDS:
        raise unknown_name("speed", speed, SPEEDS)
    levers = Levers()
    if speed != "exact":
        levers = replace(levers, precision=_fast_precision(device), graph=device.type == "cuda")
    if speed == "fast":
        levers = replace(levers, student_batches=0)
    return _without_effectless(levers, device)


def _without_effectless(levers: Levers, device: torch.device) -> Levers:
    """Turns off levers without a kernel for this device and type, so that records name only those in effect."""
    in_float32 = replace(levers, fused_generator=False, winograd=False, direct_convolutions=False)
    if device.type != "cpu":
        return replace(in_float32, fused_norms=False)
    if levers.autocast is None:
        return levers
    return replace(levers, fused_generator=False) if levers.of_teacher.autocast is None else in_float32


def with_changes(levers: Levers, changes: tuple[str, ...]) -> Levers:
    """``levers`` with settings written ``NAME=VALUE``. Raises UsageError for an unknown lever or an invalid value."""
    parsed: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in {field.name for field in fields(Levers)}:
            raise unknown_name("lever", name, [field.name for field in fields(Levers)])
        parsed[name] = _parse(name, value)
    return replace(levers, **parsed)


def _parse(name: str, value: str) -> bool | int | str | None:
    if name in ("precision", "teacher_precision"):
        return value
    if value == "none" and name in ("student_batches", "one_student_batch"):
        return None
    if name == "student_batches":
        if value.isdecimal():
            return int(value)
        raise UsageError(f"lever student_batches: expected a number or none, got {value!r}")
    if value in ("on", "off"):
        return value == "on"
    raise UsageError(f"lever {name}: expected on or off, got {value!r}")


def _fast_precision(device: torch.device) -> Precision:
    """The narrowest type that is several times faster than float32 on this device and equally safe.

    AVX512-BF16 without AMX does not count: on the measured Xeon its dot products run at half of float32's rate.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    if device.type == "cpu" and torch.cpu.get_capabilities().get("amx_tile", False):
        return "bfloat16"
    return "float32"
