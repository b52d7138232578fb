"""Methods with fewer steps, so that an iteration of each is short."""

from dataclasses import fields, replace

from dfad_fast.methods import METHODS
from dfad_fast.sources import Restarted

_MOST_STEPS = 10
_STUDENT_STEPS = 2
_FEWER = {"steps": 3, "features": 24, "compared": 8}


def short(method):
    """``method``, or, where it has hundreds of steps in an iteration, the same with a few of each kind and without the
    bank that is filled before the student starts."""
    if method.student_steps <= _MOST_STEPS:
        return method
    return replace(method, student_steps=_STUDENT_STEPS, batches=_shorter(method.source_spec))


def _shorter(spec):
    if isinstance(spec, Restarted):
        return replace(spec, **{name: min(most, getattr(spec, name)) for name, most in _FEWER.items()})
    spec = spec.with_parts(tuple(map(_shorter, spec.parts)))
    waits = any(field.name == "prefill" for field in fields(spec))
    return replace(spec, prefill=0) if waits else spec


SHORT = {name: short(method) for name, method in METHODS.items()}
