"""Refuses what is not a network, and says what to pass instead."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import torch
from torch import nn

from dfad_fast.errors import UsageError


def refuse_no_network(given: object, what: str) -> None:
    """Raises UsageError if ``given``, named ``what`` in the message, is not an nn.Module."""
    if not isinstance(given, nn.Module):
        raise UsageError(f"the {what} must be a network (nn.Module), got {_told(given)}")


def _told(given: object) -> str:
    if isinstance(given, type):
        return f"the class {given.__name__}: pass an instance of it"
    if isinstance(given, Mapping):
        return "weights without a network: build the network and call its load_state_dict() with them"
    if isinstance(given, torch.export.ExportedProgram):
        return "an ExportedProgram: pass its .module()"
    if isinstance(given, str | PathLike):
        make = "dfad_fast.models.create_network()"
        return f"{str(given)!r}: build the network, for example with {make}, and load its weights"
    if callable(given):
        return f"a {type(given).__name__}: as a teacher, wrap it in dfad_fast.BlackBoxTeacher"
    return f"{type(given).__name__}: pass a network"
