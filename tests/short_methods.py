"""Methods with fewer steps, so that an iteration of each is short."""

from dataclasses import replace

from dfad_fast.methods import METHODS
from dfad_fast.sources import Bank, Inverted, Restarted, TrainedFirst

_MOST_STEPS = 10
_STUDENT_STEPS = 2
_IMAGES = 32  # so few that the student starts with the first batch
_FEWER = {"steps": 3, "features": 24, "compared": 8}


def short(method):
    """``method``, or, where it has hundreds of steps in an iteration, the same with a few of each kind and with a
    small bank, for which the student waits no longer than one batch."""
    if method.student_steps <= _MOST_STEPS:
        return method
    return replace(method, student_steps=_STUDENT_STEPS, batches=_shorter(method.source_spec))


def _shorter(spec):
    if isinstance(spec, Restarted):
        return replace(spec, **{name: min(most, getattr(spec, name)) for name, most in _FEWER.items()})
    if isinstance(spec, Inverted):
        return replace(spec, steps=min(_FEWER["steps"], spec.steps))
    if isinstance(spec, TrainedFirst):
        return replace(spec, steps=1, generators=2)
    spec = spec.with_parts(tuple(map(_shorter, spec.parts)))
    return replace(spec, prefill=0, images=_IMAGES) if isinstance(spec, Bank) else spec


SHORT = {name: short(method) for name, method in METHODS.items()}
WITHOUT_FILES = {name: method for name, method in SHORT.items() if name not in ("dfkd", "dream", "psaq")}
"""Those for any teacher: without a record of its activations, and without attention."""
