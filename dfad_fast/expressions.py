"""Parses sums such as ``l1 + 0.1*boundary(margin=0.5, schedule=linear)`` without executing them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, NoReturn, TypeVar

from dfad_fast.errors import UsageError, unknown_name

SCHEDULE = "schedule"
"""The setting of a row that says how its weight changes over the run."""

T = TypeVar("T")
_LARGEST = 1e38
_TRUTH = {"true": True, "false": False}
_KINDS = {int: "a whole number", float: "a number", str: "text"}
_WITHOUT_QUOTES = re.compile(r"""=\s*[^'"\s,()]*([/\\~]|[a-z]-[a-z])""")
_SHOWN = 200  # characters of the text in an error


@dataclass(frozen=True)
class Row:
    """``weight * name(of, **settings)``; ``of`` holds the rows of the sum that comes first in the parentheses."""

    weight: float
    name: str
    settings: Mapping[str, Any]
    of: tuple[Row, ...] = ()


def parse_sum(text: str, what: str, example: str, nested: bool = False) -> tuple[Row, ...]:
    """The rows of a sum. ``nested``: whether a name's parentheses may start with another sum.

    Raises UsageError for text of another form; the message names ``what`` was parsed and gives the ``example``.
    """
    reader = _Reader(text, what, example, nested)
    try:
        return tuple(reader.rows(ast.parse(text.strip(), mode="eval").body, 1.0))
    except UsageError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        reader.refuse()


def build(
    kind: type[T], name: str, settings: Mapping[str, Any], further: tuple[str, ...] = (), **given: Any
) -> T:
    """Creates an object of the class ``kind`` from ``settings`` and from what is ``given``.

    The settings of a dataclass are its fields with defaults, and values must have the defaults' types; other classes
    have no settings. ``further`` names settings that are read elsewhere. Raises UsageError for unknown settings and
    values of the wrong type.
    """
    own = {f.name: f.default for f in fields(kind) if f.default is not MISSING} if is_dataclass(kind) else {}
    for setting, value in settings.items():
        if setting not in own:
            raise unknown_name(f"setting of {name}", setting, [*own, *further])
        if not _fits(value, own[setting]):
            raise UsageError(f"{name}: {setting} must be {_kind(own[setting])}, got {value!r}")
    return kind(**given, **settings)


class _Reader:
    def __init__(self, text: str, what: str, example: str, nested: bool) -> None:
        self._text = text
        self._what = what
        self._example = example
        self._nested = nested

    def refuse(self, part: str | None = None) -> NoReturn:
        where = f"{part[:_SHOWN]!r} in " if part else ""
        quotes = ", with paths and words with hyphens in quotes" if _WITHOUT_QUOTES.search(self._text) else ""
        raise UsageError(
            f"cannot read {where}the {self._what} {self._text[:_SHOWN]!r}: expected a sum such as "
            f"{self._example!r}{quotes}"
        )

    def rows(self, node: ast.expr, weight: float) -> list[Row]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
            return self.rows(node.left, weight) + self.rows(node.right, sign * weight)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            return self.rows(node.operand, weight if isinstance(node.op, ast.UAdd) else -weight)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self.rows(node.right, weight * self._number(node.left))
        return [self._row(node, weight)]

    def _number(self, node: ast.expr) -> float:
        """A finite number, or a product of several."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self._number(node.left) * self._number(node.right)
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(ast.unparse(node))
        return float(value)

    def _row(self, node: ast.expr, weight: float) -> Row:
        settings: dict[str, Any] = {}
        of: tuple[Row, ...] = ()
        if isinstance(node, ast.Call):
            if len(node.args) > self._nested or any(keyword.arg is None for keyword in node.keywords):
                self.refuse(ast.unparse(node))
            settings = {str(keyword.arg): self._value(keyword.value) for keyword in node.keywords}
            if len(settings) < len(node.keywords):
                self.refuse(ast.unparse(node))  # a setting is given twice
            of = tuple(row for argument in node.args for row in self.rows(argument, 1.0))
            node = node.func
        if not isinstance(node, ast.Name):
            self.refuse(ast.unparse(node))
        if not abs(weight) < _LARGEST:
            raise UsageError(
                f"the weight of {node.id} in the {self._what} is {weight:g}: it must fit into float32"
            )
        return Row(weight, node.id, settings, of)

    def _value(self, node: ast.expr) -> Any:
        """A number, True, False (also in lower case), or a word with or without quotes."""
        if isinstance(node, ast.Name):
            return _TRUTH.get(node.id, node.id)
        if isinstance(node, ast.Constant) and _is_finite(node.value):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            value = self._value(node.operand)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value if isinstance(node.op, ast.UAdd) else -value
        self.refuse(ast.unparse(node))


def _is_finite(value: object) -> bool:
    """Whether it is a word, or a number that float32 can hold."""
    if isinstance(value, bool | str):
        return True
    return isinstance(value, int | float) and abs(value) < _LARGEST


def _fits(value: object, default: object) -> bool:
    """Whether a value has its setting's type; an int is accepted for a float."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, int):
        return isinstance(value, int)
    return isinstance(value, type(default))


def _kind(default: object) -> str:
    """What a setting with this default takes, in words."""
    if isinstance(default, bool):
        return "True or False"
    kind = _KINDS.get(type(default), "a value")
    return kind if default == "" else f"{kind} such as {default!r}"
