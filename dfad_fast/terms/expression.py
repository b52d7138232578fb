"""Tables of terms written as text: ``l1 + 0.1*boundary(margin=0.5, schedule=linear) + virtual(alpha=1.0)``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, get_args

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.terms.term import Decay, Term, Weighted

_SCHEDULE = "schedule"
_LARGEST = 1e38
_SHOWN = 200  # characters of what cannot be read


def parse_terms(text: str, known: Mapping[str, type[Term]]) -> tuple[Weighted, ...]:
    """The rows of a sum of terms, each a name of ``known`` with an optional number before it.

    In brackets stand the term's own settings and ``schedule``, how its weight goes over the run; nothing is executed.

    Raises UsageError for text of another form, unknown terms and settings, and values that a term refuses.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return tuple(_Reader(text, known).rows(tree, 1.0))
    except UsageError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        _refuse(text)


def _refuse(text: str, part: str | None = None) -> NoReturn:
    where = f"{part[:_SHOWN]!r} in " if part else ""
    raise UsageError(
        f"cannot read {where}the terms {text[:_SHOWN]!r}: expected a sum such as "
        "'l1 + 0.1*boundary(margin=0.5, schedule=linear)'"
    )


class _Reader:
    def __init__(self, text: str, known: Mapping[str, type[Term]]) -> None:
        self._text = text
        self._known = known

    def rows(self, node: ast.expr, weight: float) -> list[Weighted]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
            return self.rows(node.left, weight) + self.rows(node.right, sign * weight)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            return self.rows(node.operand, weight if isinstance(node.op, ast.UAdd) else -weight)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self.rows(node.right, weight * self._number(node.left))
        return [self._row(node, weight)]

    def _number(self, node: ast.expr) -> float:
        """A finite number, or a product of some."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self._number(node.left) * self._number(node.right)
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse(self._text, ast.unparse(node))
        return float(value)

    def _row(self, node: ast.expr, weight: float) -> Weighted:
        settings: dict[str, Any] = {}
        if isinstance(node, ast.Call):
            if node.args or any(keyword.arg is None for keyword in node.keywords):
                _refuse(self._text, ast.unparse(node))
            settings = {str(keyword.arg): self._value(keyword.value) for keyword in node.keywords}
            if len(settings) < len(node.keywords):
                _refuse(self._text, ast.unparse(node))  # one of them is given twice
            node = node.func
        if not isinstance(node, ast.Name):
            _refuse(self._text, ast.unparse(node))
        if node.id not in self._known:
            raise unknown_name("term", node.id, self._known)
        if not abs(weight) < _LARGEST:
            raise UsageError(
                f"the weight of {node.id} in the terms is {weight:g}: it must be a number of float32"
            )
        decay = settings.pop(_SCHEDULE, "constant")
        if decay not in get_args(Decay):
            raise unknown_name(_SCHEDULE, str(decay), get_args(Decay))
        return Weighted(weight, self._term(node.id, settings), decay)

    def _term(self, name: str, settings: dict[str, Any]) -> Term:
        kind = self._known[name]
        # A term is a dataclass by habit, and not by need: one without settings takes none.
        own: dict[str, Any] = {f.name: f.default for f in fields(kind)} if is_dataclass(kind) else {}
        for setting, value in settings.items():
            if setting not in own:
                raise unknown_name(f"setting of {name}", setting, [*own, _SCHEDULE])
            if not _fits(value, own[setting]):
                raise UsageError(f"{name}: {setting} must be like {own[setting]!r}, got {value!r}")
        return kind(**settings)

    def _value(self, node: ast.expr) -> Any:
        """A number, True, False, or a word, with or without quotes."""
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Constant) and _is_finite(node.value):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            value = self._value(node.operand)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value if isinstance(node.op, ast.UAdd) else -value
        _refuse(self._text, ast.unparse(node))


def _is_finite(value: object) -> bool:
    """Whether it is a word or a number that float32 can hold."""
    if isinstance(value, bool | str):
        return True
    return isinstance(value, int | float) and abs(value) < _LARGEST


def _fits(value: object, default: object) -> bool:
    """Whether a value is of its setting's kind; a whole number will do for a float."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, int):
        return isinstance(value, int)
    return isinstance(value, type(default))
