import pytest

from dfad_fast.errors import first_line, in_one_line, with_kind


@pytest.mark.parametrize(
    ("error", "whole", "first", "named"),
    [
        (ValueError(" odd\n  value\n"), "odd value", "odd", "ValueError: odd"),
        (MemoryError(), "MemoryError", "MemoryError", "MemoryError"),
        (KeyError("student"), "'student'", "'student'", "KeyError: 'student'"),
    ],
)
def test_an_error_is_told_in_one_line(error, whole, first, named):
    assert (in_one_line(error), first_line(error)) == (whole, first)
    assert with_kind(error, first_line(error)) == named


def test_a_long_error_is_cut():
    assert in_one_line(ValueError(1000 * "long ")) == (40 * "long ")
    assert first_line(ValueError(1000 * "x"), 3) == "xxx"
