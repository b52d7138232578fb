from dataclasses import KW_ONLY, dataclass
from typing import Annotated

import pytest

from dfad_fast.errors import UsageError
from dfad_fast.settings import Limits, declared, described, refuse_beyond, setting, values


@dataclass
class Few:
    name: "str" = setting("auto", "A name.", details="Or an object.")
    images: "int" = setting(8, "Images.", limits=Limits(least=1, most=100))
    _: KW_ONLY
    rate: "float | None" = setting(None, "A rate.", limits=Limits(above=0))
    taps: "Annotated[object, 1]" = setting(None, "Names.", option=tuple[str, ...])
    not_declared: int = 3


@dataclass
class More(Few):
    flag: "bool" = setting(False, "A flag.")


def test_a_declaration_is_a_field_with_its_default_and_its_place():
    assert More("n", 2, True) == More(name="n", images=2, flag=True)
    assert list(declared(More)) == ["name", "images", "rate", "taps", "flag"]
    assert declared(More)["images"].default == Few().images == 8
    assert values(More(flag=True, images=3), of=Few) == {
        "name": "auto",
        "images": 3,
        "rate": None,
        "taps": None,
    }


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("images", 0, "--images must be at least 1, got 0"),
        ("images", 101, "--images must be at most 100, got 101"),
        ("rate", 0.0, "--rate must be > 0, got 0.0"),
        ("rate", float("nan"), "--rate must be > 0, got nan"),
    ],
)
def test_numbers_beyond_the_limits_are_refused(name, value, problem):
    with pytest.raises(UsageError) as caught:
        refuse_beyond({name: value}, declared(Few), "--{}".format)
    assert str(caught.value) == problem


def test_none_and_the_limits_themselves_are_not_beyond_them():
    refuse_beyond({"images": 1, "rate": None, "name": "x"}, declared(Few))
    refuse_beyond({"images": 100, "rate": 1e-9}, declared(Few))


@pytest.mark.parametrize(
    ("name", "expected", "fits", "fits_not"),
    [
        ("images", "int", [2], [True, 2.0, "2", None]),
        ("rate", "float | None", [2, 0.5, None], [True, "2"]),
        ("flag", "bool", [True], [1, None]),
        ("taps", "tuple[str, ...] | None", [("a", "b"), (), None], ["a", ("a", 1)]),
    ],
)
def test_what_a_file_may_hold(name, expected, fits, fits_not):
    own = declared(More)[name]
    assert own.expected == expected
    assert all(own.accepts(value) for value in fits)
    assert not any(own.accepts(value) for value in fits_not)


def test_declarations_are_the_lines_of_a_docstring():
    lines = described(Few, indent=4, width=30).splitlines()
    assert lines[:2] == ["    name: A name. Or an", "        object."]
    assert all(len(line) <= 30 and line == line.rstrip() for line in lines)
