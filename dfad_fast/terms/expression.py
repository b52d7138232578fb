"""Tables of terms written as text: ``l1 + 0.1*boundary(margin=0.5, schedule=linear) + virtual(alpha=1.0)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from dfad_fast.errors import unknown_name
from dfad_fast.expressions import SCHEDULE, build, parse_sum
from dfad_fast.terms.term import Decay, Term, Weighted

_EXAMPLE = "l1 + 0.1*boundary(margin=0.5, schedule=linear)"


def parse_terms(text: str, known: Mapping[str, type[Term]]) -> tuple[Weighted, ...]:
    """The rows of a sum of terms, each a name of ``known`` with an optional number before it.

    Parentheses hold the term's settings and ``schedule``, its weight's course over the run. No text is executed.

    Raises UsageError for malformed text, unknown terms and settings, and values that a term rejects.
    """
    rows = []
    for row in parse_sum(text, "terms", _EXAMPLE):
        if row.name not in known:
            raise unknown_name("term", row.name, known)
        settings = dict(row.settings)
        decay = settings.pop(SCHEDULE, "constant")
        if decay not in get_args(Decay):
            raise unknown_name(SCHEDULE, str(decay), get_args(Decay))
        term = build(known[row.name], row.name, settings, (SCHEDULE,))
        rows.append(Weighted(row.weight, term, decay))
    return tuple(rows)
