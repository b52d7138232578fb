"""Errors for users: one line each, saying what was expected, what was found and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DFADFastError(Exception):
    """Base of every error that dfad_fast raises on purpose.

    The command line prints its message without a traceback and exits with ``exit_code``.
    """

    exit_code = 1


class DFADFastWarning(UserWarning):
    """Something went wrong, but the run continues."""


class UsageError(DFADFastError, ValueError):
    """The request itself is wrong: an unknown name, a bad value, files that do not fit. Exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A settings file is wrong. The message names the file, and settings by their names in it."""


class RunError(DFADFastError, RuntimeError):
    """The request was valid but the run could not continue, for example because a loss became NaN. Exit code 1."""


def in_one_line(error: BaseException, most: int = 200) -> str:
    """The message of ``error``, or its type if there is none, in at most ``most`` characters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of the message, for errors followed by details, such as torch's C++ tracebacks."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:most]


def with_kind(error: BaseException, said: str) -> str:
    """Such as "KeyError: 'student'"; ``said`` is the result of one of the functions above."""
    kind = type(error).__name__
    return kind if said == kind else f"{kind}: {said}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not registered, with the nearest names first."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}: {hint}known names: {', '.join(known)}")
