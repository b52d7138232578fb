"""The settings that change the result of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from dfad_fast.settings import BATCH, COUNT, RATE, SEED, Limits, declared, setting

if TYPE_CHECKING:
    from torch import nn

    from dfad_fast.engine.choice import Terms
    from dfad_fast.engine.recipe import Recipe
    from dfad_fast.methods import Method
    from dfad_fast.networks.levers import Levers
    from dfad_fast.sources import SourceSpec

STUDENT_INIT = (
    "Where the student starts: random (as it is), teacher (from its weights), auto (teacher where that fits)."
)


# No __eq__: trainers inherit from it, and two trainers with equal settings are still two.
@dataclass(eq=False, repr=False)
class DistillerSettings:
    """What the student is trained with, and how. Each setting is recorded, and compared when a run is resumed."""

    method: str | Method = setting(
        "auto",
        "auto (dfad-ar-vi-bn, or dfad-ar if the teacher has no batch norm layers; with --minutes, what does best in "
        "that time), dfad, dfad-ar, dfad-vi, dfad-ar-vi, dfad-ar-vi-bn, zskt, dafl, dfq, fast-2, fast-5, fast-10, "
        "nayer, cmi, kegnet, procedural, procedural-inversion, deepinversion, adi, tv-inversion, psaq, dfkd, dream; "
        "for a black-box teacher dfme (the auto choice), maze.",
        details="Or a Method. auto leaves the activation regularizer out if no features match.",
        option=str,
        resolved=True,
    )
    generator: str | nn.Module = setting(
        "auto",
        "auto (the source's own, otherwise a narrower DFAD one), conditional (takes a class), or as published: dfad, "
        "zskt, dafl, dcgan (64 pixels).",
        details="Or any nn.Module that maps noise [B, latent_dim] to images in the teacher's normalized input space.",
        option=str,
        resolved=True,
    )
    latent_dim: int = setting(
        100, "Length of the noise vectors.", details="They are drawn from N(0, I).", limits=Limits(1, 10**6)
    )
    batch_size: int = setting(128, "Images per step, of all processes.", limits=BATCH)
    seed: int = setting(
        0,
        "Seed of all random numbers.",
        details="These are the generator's weights, noise and mixtures. Dropout in your networks draws from torch's "
        "global generator.",
        limits=SEED,
        after="sync_batch_norm",
    )
    _: KW_ONLY
    recipe: str | Recipe = setting(
        "auto",
        "Optimizers: auto (the method's), sgd, sgd-drawn, sgd-start, adam, published (DFAD's), or as published with "
        "zskt, dfq, fast-2, fast-5, fast-10, nayer, cmi, kegnet, inversion.",
        details="Or a Recipe. auto is the method's, or else sgd; in place of sgd and sgd-drawn a student with batch "
        "norm layers that starts from the teacher gets sgd-start, and one without such layers adam.",
        option=str,
        resolved=True,
    )
    student_init: str = setting(
        "random",
        STUDENT_INIT,
        details="teacher cuts the teacher's channels and blocks down to the student's and refuses a student of another "
        "family; auto leaves such a student unchanged, and also one that was trained before.",
        metavar="auto|teacher|random",
        resolved=True,
    )
    best_by: str = setting(
        "auto",
        "How the student in student_best.safetensors is chosen: accuracy (on test images), agreement (with the teacher "
        "on held-out generated images, without labels), auto (accuracy if there are test images).",
        details="See dfad_fast.engine.best.BestStudent.",
        metavar="auto|accuracy|agreement",
        profiled=False,
    )
    student_ema: float | None = setting(
        None,
        "Decay per iteration, such as 0.99, of a moving average of the student, evaluated and saved beside it.",
        details="The average is averaged_student.",
        metavar="DECAY",
        profiled=False,
    )
    replay: int = setting(
        0,
        "Number of earlier batches to keep; the student takes one more step per iteration, on one of them.",
        details="Turns the lever graph off.",
        limits=Limits(most=10**6),
        metavar="BATCHES",
    )
    generator_ema: float | None = setting(
        None,
        "Decay per iteration of a moving average of the generator; the student takes one more step per iteration, on "
        "images of this average.",
        details="Turns the lever graph off.",
        metavar="DECAY",
    )
    student_lr: float | None = setting(
        None, "The student's learning rate, instead of the recipe's.", limits=RATE, resolved=True
    )
    generator_lr: float | None = setting(
        None, "The generator's learning rate, instead of the recipe's.", limits=RATE, resolved=True
    )
    taps_teacher: Sequence[str] | None = setting(
        None,
        "Where to read the teacher's features, instead of the taps found automatically.",
        details="See dfad_fast.models.reading.taps.",
        option=tuple[str, ...],
        resolved=True,
    )
    taps_student: Sequence[str] | None = setting(
        None,
        "Where to read the student's features, instead of the taps found automatically.",
        option=tuple[str, ...],
        resolved=True,
    )
    speed: str | Levers = setting(
        "auto",
        "exact: the published mathematics in float32. auto: bfloat16 where that is fast. fast: also fewer batches.",
        details="Or Levers, one switch each: see dfad_fast.networks.levers.",
        option=str,
        resolved=True,
    )
    student_terms: Terms | None = setting(
        None,
        "The student's terms, instead of the method's: 'l1 + 0.1*boundary(margin=0.5, schedule=linear) + virtual'.",
        details="Or rows (Weighted): see dfad_fast.terms.",
        option=str,
        metavar="SUM",
        after="method",
        resolved=True,
    )
    generator_terms: Terms | None = setting(
        None,
        "The generator's terms, instead of the method's: '-l1 + 0.2*batch_norm'.",
        details="Or rows (Weighted).",
        option=str,
        metavar="SUM",
        after="student_terms",
        resolved=True,
    )
    source: str | SourceSpec = setting(
        "auto",
        "Where the student's images come from: auto (the method's source), or a sum with shares of each batch, such as "
        "'0.5*procedural(schedule=linear) + 0.5*fresh' or 'bank(fresh)'.",
        details="Or a SourceSpec: see dfad_fast.sources.",
        option=str,
        metavar="SUM",
        after="generator_terms",
        resolved=True,
    )
    student_steps: int | None = setting(
        None, "The student's steps in an iteration, instead of the method's.", limits=COUNT, after="source"
    )
    sync_batch_norm: bool = setting(
        False,
        "Compute batch norm over the whole batch of all processes, not over each process's part.",
        details="Applies to student and generator.",
        profiled=False,
    )


def recorded_by_value() -> dict[str, Any]:
    """The settings that a run's config.yaml records as given, each with its default.

    The others are recorded in resolved form: the method's terms, the recipe, levers and taps.
    """
    return {name: own.default for name, own in declared(DistillerSettings).items() if not own.resolved}


def recorded(settings: DistillerSettings) -> dict[str, Any]:
    """The part of ``settings`` that a run's config.yaml records as given."""
    return {name: getattr(settings, name) for name in recorded_by_value()}
