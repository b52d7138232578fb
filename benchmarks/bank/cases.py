"""The cases and contenders of ``run.py bank``: pairs of networks, and sources of the student's images."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.step.cases import PAIRS, Pair


@dataclass(frozen=True)
class Case:
    """A pair of networks; its banks hold ``images`` images, with the teacher's outputs for ``views`` views of each."""

    pair: Pair
    images: int
    views: int


CASES = {
    "fashion": Case(PAIRS["fashion"], images=4096, views=4),
    "resnet": Case(PAIRS["resnet"], images=512, views=2),
}


@dataclass(frozen=True)
class Contender:
    """A ``source`` of the student's images. {images} and {views} stand for the case's numbers, {few} for the number of
    images with which each iteration seals a segment. ``generator``: whether the generator takes a step in each
    iteration. ``terms``: the student's terms.
    """

    name: str
    source: str
    generator: bool = True
    terms: str = "l1"
    on_disk: bool = False


def _once(name: str, further: str = "", terms: str = "l1", on_disk: bool = False) -> Contender:
    """A bank that is filled by a generator without steps. This is faster and does not change the measurements."""
    inside = ", ".join(["fresh", "images={images}", "views={views}", "new=0", *[further] * bool(further)])
    return Contender(name, f"bank({inside})", False, terms, on_disk)


FRESH = "fresh"
ALONE = "fresh, no generator's step"
CONTENDERS = (
    Contender(FRESH, "fresh"),
    Contender(ALONE, "fresh", generator=False),
    _once("bank, filled once"),
    _once("bank, filled once, in halves", "store=half"),
    _once("bank, filled once, in the run's folder", on_disk=True),
    _once("bank, filled once, crop, CutMix and mixtures", "augment='flip-shift-crop-cutmix-mix'"),
    Contender("bank, filled once, no answers stored", "bank(fresh, images={images}, views=0, new=0)", False),
    Contender("bank, a new batch each iteration", "bank(fresh, images={few}, views={views})"),
    Contender("bank, a new batch each iteration, 1 view", "bank(fresh, images={few}, views=1)"),
    Contender("fresh, l1 + boundary", "fresh", terms="l1 + boundary"),
    _once("bank, filled once, l1 + boundary", terms="l1 + boundary"),
)
