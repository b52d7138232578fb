"""Errors meant for the person at the keyboard: one line each, saying what was expected, what came and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DFADFastError(Exception):
    """Base of every error that dfad_fast raises on purpose.

    The command line prints its message without a traceback and exits with ``exit_code``.
    """

    exit_code = 1


class DFADFastWarning(UserWarning):
    """Something went wrong that a run goes on with."""


class UsageError(DFADFastError, ValueError):
    """The request itself is wrong: an unknown name, a bad value, files that do not fit. Exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A file of settings is wrong, which the message names, and the settings by their names there."""


class RunError(DFADFastError, RuntimeError):
    """The request was sound but the run could not go on, such as a loss that turned NaN. Exit code 1."""


def in_one_line(error: BaseException, most: int = 200) -> str:
    """What ``error`` says, or its kind where it says nothing, in at most so many characters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: BaseException, most: int | None = None) -> str:
    """The same of the first line alone, for errors that go on with details, as torch's do with a C++ traceback."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:most]


def with_kind(error: BaseException, said: str) -> str:
    """Such as "KeyError: 'student'"; ``said`` is what one of the above returned."""
    kind = type(error).__name__
    return kind if said == kind else f"{kind}: {said}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that no registry knows, with the nearest names first."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}: {hint}known {kind}s: {', '.join(known)}")
