"""Chooses the teacher's blocks that initialize the student's, if the student has fewer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from torch import nn

from dfad_fast.models.starting.channels import Map

Blocks = Literal["even", "first"]
"""Which blocks of one form are kept: evenly spaced ones, or the first ones."""


def counterparts(teacher: nn.Module, student: nn.Module, of: Map, to: Map, blocks: Blocks) -> dict[str, str]:
    """Maps paths of the student's modules to the teacher's modules in the same place, where there are any.

    This is the same path, except in numbered blocks. Among blocks of the same form, such as all of a stage except the
    first, which changes the size, ``blocks`` says which are kept.
    """
    found = {"": ""}

    def descend(student_path: str, teacher_path: str) -> None:
        own, others = student.get_submodule(student_path), teacher.get_submodule(teacher_path)
        names, known = [n for n, _ in own.named_children()], [n for n, _ in others.named_children()]
        pairs: dict[str, str] = {name: name for name in names if name in known}
        if _are_numbers(names) and _are_numbers(known):
            forms = [_form(own, student_path, name, to) for name in names]
            other_forms = [_form(others, teacher_path, name, of) for name in known]
            if not any(len(form) > 1 for form in (*forms, *other_forms)):
                pairs = (
                    pairs if forms == other_forms else {}
                )  # for bare layers in a row, the position means nothing
            elif len(names) != len(known):
                pairs = {names[i]: known[j] for i, j in _in_runs(forms, other_forms, blocks)}
        for name, other in pairs.items():
            below, beside = _join(student_path, name), _join(teacher_path, other)
            found[below] = beside
            descend(below, beside)

    descend("", "")
    return found


def _in_runs(own: Sequence[object], others: Sequence[object], blocks: Blocks) -> list[tuple[int, int]]:
    """Pairs of positions in two sequences of blocks with the forms ``own`` and ``others``."""
    runs, other_runs = _runs(own), _runs(others)
    if [form for form, _ in runs] != [form for form, _ in other_runs]:
        return [(i, i) for i in range(min(len(own), len(others))) if own[i] == others[i]]
    pairs = []
    for (_, positions), (_, known) in zip(runs, other_runs, strict=True):
        wanted, there = len(positions), len(known)
        for i, position in enumerate(positions[:there]):
            spread = (2 * i + 1) * there // (2 * wanted) if blocks == "even" and wanted < there else i
            pairs.append((position, known[spread]))
    return pairs


def _runs(forms: Sequence[object]) -> list[tuple[object, list[int]]]:
    positions = range(len(forms))
    return [(form, list(run)) for form, run in groupby(positions, key=lambda i: forms[i])]


def _form(container: nn.Module, path: str, name: str, network: Map) -> tuple[object, ...]:
    """Equal for blocks that may replace each other; for a bare layer only its class."""
    block = container.get_submodule(name)
    if next(block.children(), None) is None:
        return (type(block).__name__,)
    parts = tuple(
        (own, type(part).__name__, getattr(part, "stride", None), getattr(part, "kernel_size", None))
        for own, part in block.named_modules()
        if next(part.children(), None) is None
    )
    taken, given = network.shapes.get(_join(path, name), ((), ()))
    return type(block).__name__, parts, taken == given


def _are_numbers(names: Sequence[str]) -> bool:
    return bool(names) and all(name.isdigit() for name in names)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
