"""Sources as text: what is read, that it is written back alike, and what is refused."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from dfad_fast.errors import UsageError
from dfad_fast.sources import SOURCES, Fresh, Mixture, SameNoise, Share, SourceSpec, as_source


@dataclass(frozen=True)
class Keeps(SourceSpec):
    name: ClassVar[str] = "keeps"
    wraps: ClassVar[bool] = True
    of: SourceSpec
    images: int = 4
    order: str = "age"


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(SOURCES, "keeps", Keeps)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("fresh", Fresh()),
        ("keeps(fresh)", Keeps(Fresh())),
        ("keeps(same_noise, images=3, order='by age')", Keeps(SameNoise(), 3, "by age")),
        (
            "0.5*fresh(schedule=linear) + 2*keeps(fresh, images=9, schedule=after_warmup)",
            Mixture((Share(0.5, Fresh(), "linear"), Share(2.0, Keeps(Fresh(), 9), "after_warmup"))),
        ),
        (
            "keeps(1*fresh + 3*same_noise)",
            Keeps(Mixture((Share(1.0, Fresh()), Share(3.0, SameNoise())))),
        ),
    ],
)
def test_a_source_is_read_and_written_back(text, spec):
    assert as_source(text) == spec
    assert str(spec) == text
    assert as_source(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stale", "unknown source 'stale'"),
        ("", "cannot read the source ''"),
        ("fresh fresh", "cannot read the source"),
        ("keeps(fresh, fresh)", "cannot read"),
        ("keeps", r"name that first, as in keeps\(fresh\)"),
        ("fresh(same_noise)", "leave same_noise out"),
        ("fresh(images=2)", "unknown setting of fresh 'images'"),
        ("keeps(fresh, images=2.5)", "images must be a whole number such as 4, got 2.5"),
        ("keeps(fresh, of=fresh)", "unknown setting of keeps 'of'"),
        ("0.5*fresh", "is the only one"),
        ("fresh(schedule=linear)", "is the only one"),
        ("fresh + same_noise(schedule=soon)", "unknown schedule 'soon'"),
        ("fresh - same_noise", "at least 0, got -1"),
        ("0*fresh + 0*same_noise", "after 0% of the run no source"),
        ("fresh(schedule=early) + same_noise(schedule=warmup)", "after 50% of the run no source"),
        ("1e39*fresh + fresh", "cannot read"),
        ("folder(path=/data/images)", "with paths and words with hyphens in quotes$"),
        ("folder(path=data/images)", "with paths and words with hyphens in quotes$"),
        ("folder(path='data/images'", r"0\.5\*fresh'$"),
    ],
)
def test_what_declares_no_source_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        as_source(text)
