"""dfad_fast: data-free knowledge distillation with fused loss ops.

``DFADTrainer`` distills a trained classifier into a small student without its data; ``dfad_fast.ops`` holds the
loss ops for use in any other loop. A custom method is a ``Method`` of ``Weighted`` terms; a custom term is a subclass
of ``Term``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dfad_fast.version import __version__

if TYPE_CHECKING:
    from dfad_fast.allocator import pin_allocator
    from dfad_fast.backends import use_backend
    from dfad_fast.engine.recipe import Recipe
    from dfad_fast.errors import DFADFastError, DFADFastWarning, RunError, UsageError
    from dfad_fast.methods import Method
    from dfad_fast.models.black_box import BlackBoxTeacher
    from dfad_fast.models.ensemble import Ensemble
    from dfad_fast.networks.levers import Levers
    from dfad_fast.sources import Source, SourceSpec
    from dfad_fast.terms import Term, Weighted
    from dfad_fast.training.trainer import DFADTrainer

__all__ = [
    "BlackBoxTeacher",
    "DFADFastError",
    "DFADFastWarning",
    "DFADTrainer",
    "Ensemble",
    "Levers",
    "Method",
    "Recipe",
    "RunError",
    "Source",
    "SourceSpec",
    "Term",
    "UsageError",
    "Weighted",
    "__version__",
    "pin_allocator",
    "use_backend",
]

# Imported on first access, so that `import dfad_fast.ops` does not also import the trainer.
_HOMES = {
    "BlackBoxTeacher": "dfad_fast.models.black_box",
    "DFADFastError": "dfad_fast.errors",
    "DFADFastWarning": "dfad_fast.errors",
    "DFADTrainer": "dfad_fast.training.trainer",
    "Ensemble": "dfad_fast.models.ensemble",
    "Levers": "dfad_fast.networks.levers",
    "Method": "dfad_fast.methods",
    "Recipe": "dfad_fast.engine.recipe",
    "RunError": "dfad_fast.errors",
    "Source": "dfad_fast.sources",
    "SourceSpec": "dfad_fast.sources",
    "Term": "dfad_fast.terms",
    "UsageError": "dfad_fast.errors",
    "Weighted": "dfad_fast.terms",
    "pin_allocator": "dfad_fast.allocator",
    "use_backend": "dfad_fast.backends",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
