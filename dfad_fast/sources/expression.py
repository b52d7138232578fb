"""Sources written as text: ``fresh``, ``bank(fresh)``, ``0.5*procedural(schedule=linear) + 0.5*fresh``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.expressions import SCHEDULE, Row, build, parse_sum
from dfad_fast.sources.mixture import Mixture, Share
from dfad_fast.sources.spec import SourceSpec
from dfad_fast.terms.term import Decay

_EXAMPLE = "0.5*procedural(schedule=linear) + 0.5*fresh"
_FORMER = {"same noise": "same_noise", "generator's": "generators_batch"}
"""Former source names in methods that are not valid words of an expression."""


def parse_source(text: str, known: Mapping[str, type[SourceSpec]]) -> SourceSpec:
    """The source that ``text`` declares: a name of ``known``, or a sum of sources with their shares of each batch.

    Parentheses hold the source that it takes its images from, if any, then its settings and ``schedule``, its share's
    course over the run. No text is executed.

    Raises UsageError for malformed text, unknown names and settings, and values that a source rejects.
    """
    rows = parse_sum(_FORMER.get(text, text), "source", _EXAMPLE, nested=True)
    return _of_rows(rows, known)


def _of_rows(rows: Sequence[Row], known: Mapping[str, type[SourceSpec]]) -> SourceSpec:
    shares = [_share(row, known) for row in rows]
    if len(shares) > 1:
        return Mixture(tuple(shares))
    if shares[0].decay != "constant" or shares[0].weight != 1.0:
        raise UsageError(
            f"the source {rows[0].name} is the only one, so it has no share or {SCHEDULE}: leave them out, or add "
            "another source"
        )
    return shares[0].of


def _share(row: Row, known: Mapping[str, type[SourceSpec]]) -> Share:
    if row.name not in known:
        raise unknown_name("source", row.name, known)
    kind, settings = known[row.name], dict(row.settings)
    decay = settings.pop(SCHEDULE, "constant")
    if decay not in get_args(Decay):
        raise unknown_name(SCHEDULE, str(decay), get_args(Decay))
    if kind.wraps and not row.of:
        raise UsageError(
            f"{row.name} takes its images from another source: name that first, as in {row.name}(fresh)"
        )
    if row.of and not kind.wraps:
        raise UsageError(f"{row.name} takes its images from no other source: leave {row.of[0].name} out")
    given = {"of": _of_rows(row.of, known)} if row.of else {}
    return Share(row.weight, build(kind, row.name, settings, (SCHEDULE,), **given), decay)
