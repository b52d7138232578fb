"""The runs, by name: what DFADTrainer is given, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dfad_fast.networks.levers import Levers  # with DFADTrainer, all that these runs know of the library


@dataclass(frozen=True)
class Case:
    """A run of ``iterations``.

    ``resume_at``: it is also stopped after so many iterations, an even number, and resumed with new networks. It has
    to end with the same digests.
    """

    settings: dict[str, Any]
    iterations: int = 4
    channels: int = 1
    batch_norm: bool = True
    evaluated: bool = False
    resume_at: int | None = None
    speed: Levers | str = field(default_factory=Levers)

    def __post_init__(self) -> None:
        # Each call of fit ends with an evaluation, and the whole run has one after every second iteration.
        assert self.resume_at is None or self.resume_at % 2 == 0


def _made(method: str = "dfad-ar-vi-bn", **rest: Any) -> Case:
    """The case of ``method``; what is no field of Case is a setting of the trainer."""
    own = {name: rest.pop(name) for name in tuple(rest) if name in Case.__dataclass_fields__}
    return Case({"method": method, **rest}, **own)


TRAINED_TERMS = "l1 + 0.1*hint + 0.1*factor(rate=0.5) + 0.2*manifold(stage='down', alpha=2.0)"
LEARNED_MIXTURES = "l1 + virtual(policy=learned) + 0.5*virtual(policy=learned, labels=teacher)"
DISTANCES = (
    "kl(temperature=2.0) + 0.5*js + 0.1*margin_relu + 10*attention"
    " + 0.1*boundary(margin=0.5, stages=published, margins=linear, schedule=cosine)"
    " + 0.5*virtual(distance='softmax-mse', per_image=False, labels=teacher, schedule=early)"
)
PRIORS = (
    "-log_l1 + 0.1*batch_norm_kl + 0.1*entropy + 0.001*total_variation + 0.0001*image_norm + 0.1*crossing"
)

CASES = {
    # Methods
    "dfad": _made("dfad", evaluated=True, resume_at=2),
    "dfad-ar": _made("dfad-ar", channels=3),
    "dfad-vi": _made("dfad-vi", evaluated=True),
    "dfad-ar-vi": _made("dfad-ar-vi"),
    "dfad-ar-vi-bn": _made(channels=3, evaluated=True, iterations=6, resume_at=4),
    "zskt": _made("zskt", iterations=3, evaluated=True, resume_at=2),
    "dafl": _made("dafl"),
    "dfq": _made("dfq", iterations=3, resume_at=2),
    "auto, speed exact": _made("auto", speed="exact"),
    "auto without batch norm": _made("auto", batch_norm=False, evaluated=True),
    # Batches and levers
    "student_batches 0": _made(speed=Levers(student_batches=0)),
    "student_batches 2": _made(speed=Levers(student_batches=2)),
    "student_batches 0, zskt": _made("zskt", iterations=3, speed=Levers(student_batches=0)),
    "student_batches 2, dafl": _made("dafl", speed=Levers(student_batches=2)),
    "sample_together": _made(speed=Levers(sample_together=True)),
    "one_student_batch": _made(speed=Levers(one_student_batch=True)),
    "one_student_batch off": _made(
        "dfad-vi", batch_norm=False, speed=Levers(one_student_batch=False), iterations=3
    ),
    "winograd off": _made(speed=Levers(winograd=False)),
    "direct convolutions off": _made(speed=Levers(direct_convolutions=False)),
    "fold_teacher off": _made(speed=Levers(fold_teacher=False)),
    "fused_generator off": _made(speed=Levers(fused_generator=False)),
    "bfloat16": _made(speed=Levers(precision="bfloat16"), evaluated=True, resume_at=2),
    "teacher in bfloat16": _made(speed=Levers(teacher_precision="bfloat16"), resume_at=2),
    "float16": _made(speed=Levers(precision="float16"), iterations=3),
    # Cures
    "replay": _made("dfad", replay=2),
    "generator_ema": _made("dfad-ar", generator_ema=0.9),
    "replay and generator_ema": _made(replay=2, generator_ema=0.9, iterations=5, resume_at=4),
    "generator_ema, dafl": _made("dafl", generator_ema=0.9, replay=1),
    "student_ema": _made("dfad-ar", student_ema=0.9, evaluated=True),
    "all cures, student_batches 0": _made(
        replay=2, generator_ema=0.9, student_ema=0.9, speed=Levers(student_batches=0), resume_at=2
    ),
    # Sources, and where the student starts
    "procedural and fresh": _made(
        source="0.5*procedural(schedule=linear) + 0.5*fresh", evaluated=True, resume_at=2
    ),
    "bank": _made(
        source="bank(fresh, images=64, prefill=32, augment='flip-shift-cutmix-mix')",
        student_terms="l1",
        student_init="teacher",
        iterations=6,
        resume_at=4,
    ),
    "fast-2": _made("fast-2", student_steps=2, source="restarted(steps=2, lr_noise=0.015)", resume_at=2),
    "kegnet": _made(
        "kegnet",
        student_steps=2,
        source="bank(trained_first(steps=25, generators=2), images=32, prefill=32, new=0)",
        resume_at=2,
    ),
    # Terms as text
    "conditional": _made(
        "dfad", generator="conditional", generator_terms="-l1 + 0.1*label", evaluated=True, resume_at=2
    ),
    "trained terms": _made("dfad", student_terms=TRAINED_TERMS, resume_at=2),
    "distances": _made("dfad", student_terms=DISTANCES, channels=3),
    "priors": _made("dfad", generator_terms=PRIORS, evaluated=True),
    "learned mixtures": _made("dfad", student_terms=LEARNED_MIXTURES, resume_at=2),
    "trained terms, replay": _made("dfad-ar", student_terms=TRAINED_TERMS, replay=1, generator_ema=0.5),
    # Generators, recipes, taps
    "generator dfad": _made("dfad", generator="dfad", iterations=3),
    "generator dafl": _made("dafl", generator="dafl", iterations=3),
    "recipe adam": _made("dfad-ar", recipe="adam"),
    "recipe sgd": _made("dfad", recipe="sgd", batch_norm=False),
    "recipe published": _made("dfad-ar", recipe="published", iterations=6, resume_at=2),
    "taps named": _made("dfad-ar", taps_teacher=["#0", "last"], taps_student=["#0", "last"]),
}

_SHARED = ("dfad-ar-vi-bn", "zskt", "dafl", "bfloat16", "student_batches 0", "trained terms", "bank")
# Each in two processes that share the batch.
CASES_OF_TWO = {
    **{name: replace(CASES[name], resume_at=None) for name in _SHARED},
    "replay and generator_ema": CASES["replay and generator_ema"],
    "sync_batch_norm": _made(sync_batch_norm=True, evaluated=True, resume_at=2),
    "sync_batch_norm, replay and generator_ema": _made(
        "dfad", sync_batch_norm=True, replay=2, generator_ema=0.9, student_ema=0.9
    ),
    "sync_batch_norm, zskt": _made("zskt", sync_batch_norm=True, iterations=3),
}
