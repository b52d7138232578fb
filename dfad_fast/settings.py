"""How settings are declared: once, as a field of a dataclass, with help, limits and other properties.

Command-line options, the checks of config.yaml, ``DFADTrainer``'s signature and documentation, and the comparison when
a run is resumed all come from these declarations.
"""

from __future__ import annotations

import numbers
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeGuard, TypeVar, get_args, get_origin

from dfad_fast.errors import UsageError

T = TypeVar("T")

_KINDS: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "tuple[int, ...]": tuple[int, ...],
    "tuple[float, ...]": tuple[float, ...],
    "tuple[str, ...]": tuple[str, ...],
}


@dataclass(frozen=True)
class Limits:
    """The range of a numeric setting. Values outside it are typos, or more than any machine can hold.

    ``least`` and ``most`` are inclusive, ``above`` is exclusive; None is no limit.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def refuse(self, name: str, value: float | None) -> None:
        """Raises UsageError, naming the setting, for a number outside the limits. Accepts None."""
        if value is None:
            return
        problem = None
        if self.above is not None and not value > self.above:
            problem = f"> {self.above}"
        elif self.least is not None and not value >= self.least:
            problem = f"at least {self.least}"
        elif self.most is not None and not value <= self.most:
            problem = f"at most {self.most}"
        if problem:
            raise UsageError(f"{name} must be {problem}, got {value}")


# Beyond this range torch takes seeds modulo 2**64, so that different seeds would be equal.
SEED = Limits(least=0, most=2**63 - 1)
COUNT = Limits(least=1, most=2**63 - 1)
EPOCHS = Limits(least=1, most=10**9)
BATCH = Limits(least=2, most=10**7)
RATE = Limits(above=0, most=10**9)


@dataclass(frozen=True)
class Setting:
    """A declaration, see :func:`setting`."""

    help: str
    details: str = ""
    limits: Limits = Limits()
    kind: Any = None
    """What the command line and config.yaml accept: bool, int, float, str or a tuple of one of them."""
    multiple: bool = False
    metavar: str | None = None
    after: str | None = None
    changes_result: bool = True
    resolved: bool = False
    profiled: bool = True
    default: Any = None

    @property
    def expected(self) -> str:
        """``kind`` in words, with None if it is allowed."""
        kind = str(self.kind) if get_origin(self.kind) else self.kind.__name__
        return f"{kind} | None" if self.is_optional else kind

    @property
    def is_optional(self) -> bool:
        """Whether it may be left out: its default is none or empty."""
        return self.default is None or self.default == ()

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` is of ``kind``. Ignores the limits."""
        return (value is None and self.is_optional) or _fits(value, self.kind)


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(entry, get_args(kind)[0]) for entry in value)
    if isinstance(value, bool):  # a bool is an int in Python
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def setting(
    default: T,
    help: str,
    *,
    details: str = "",
    limits: Limits = Limits(),
    option: Any = None,
    multiple: bool = False,
    metavar: str | None = None,
    after: str | None = None,
    changes_result: bool = True,
    resolved: bool = False,
    profiled: bool = True,
) -> T:
    """The field of a dataclass that declares a setting.

    Args:
        default: its value if it is not given.
        help: its help text on the command line.
        details: what the Python documentation adds to that.
        limits: the numbers that it accepts.
        option: what the command line and config.yaml accept, if the annotation allows more.
        multiple: whether each entry of a tuple is a separate option, instead of one option with commas.
        metavar: the placeholder for its value on the command line.
        after: the setting that its option follows, if that is not the one declared before it.
        changes_result: whether the value changes a run's result. If not, comparisons of runs ignore it.
        resolved: whether a run records what it resolves to (a method's terms, a recipe's rates), not its value.
        profiled: whether a profile of a run's iterations depends on it.
    """
    declaration = Setting(
        help, details, limits, option, multiple, metavar, after, changes_result, resolved, profiled
    )
    return field(default=default, metadata={"setting": declaration})


def declared(settings: type) -> dict[str, Setting]:
    """The declarations of a class, by name, in the order of its fields."""
    found: dict[str, Setting] = {}
    for own in fields(settings):
        if "setting" in own.metadata:
            declaration: Setting = own.metadata["setting"]
            kind = declaration.kind or _KINDS[str(own.type).removesuffix(" | None")]
            found[own.name] = replace(declaration, kind=kind, default=own.default)
    return found


def values(settings: object, of: type) -> dict[str, Any]:
    """The values in ``settings`` of the settings declared by its base class ``of``, NumPy's numbers as Python's."""
    given = {name: getattr(settings, name) for name in declared(of)}
    return {name: value.item() if _is_of_numpy(value) else value for name, value in given.items()}


def _is_of_numpy(value: object) -> TypeGuard[Any]:
    """Without importing NumPy, which would slow down ``dfad-fast --help``."""
    return isinstance(value, numbers.Number) and hasattr(value, "item")


def refuse_beyond(
    given: Mapping[str, Any], declarations: Mapping[str, Setting], named: Callable[[str], str] = str
) -> None:
    """Raises UsageError for a number outside its limits, and for what is no number where one is needed.

    ``named`` gives the setting's name in the message.
    """
    for name, value in given.items():
        declaration = declarations[name]
        if declaration.kind in (int, float) and not (value is None and declaration.is_optional):
            refuse_no_number(named(name), value, whole=declaration.kind is int)
        declaration.limits.refuse(named(name), value)


def refuse_no_number(name: str, value: object, *, whole: bool) -> None:
    """Raises UsageError, naming the setting, for anything but a number, or a whole one."""
    kind: type = numbers.Integral if whole else numbers.Real
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UsageError(f"{name} must be a {'whole ' if whole else ''}number, got {value!r}")


def described(settings: type, indent: int = 8, width: int = 118) -> str:
    """The declarations as lines for a docstring's Args."""
    return "\n".join(
        textwrap.fill(
            f"{name}: {own.help} {own.details}",
            width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, own in declared(settings).items()
    )


def as_option(name: str) -> str:
    """The setting's name on the command line."""
    return f"--{name.replace('_', '-')}"
