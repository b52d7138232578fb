"""dfad_fast: data-free knowledge distillation with fused loss ops.

``DFADTrainer`` distils a trained classifier into a small student without its data; ``dfad_fast.ops`` holds the
loss ops for use in any other loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfad_fast.version import __version__

__all__ = ["DFADTrainer", "__version__", "use_backend"]

if TYPE_CHECKING:
    from dfad_fast.backends import use_backend
    from dfad_fast.training.trainer import DFADTrainer


def __getattr__(name: str) -> Any:
    # Late, so that `import dfad_fast.ops` does not pay for the trainer.
    if name == "DFADTrainer":
        from dfad_fast.training.trainer import DFADTrainer

        return DFADTrainer
    if name == "use_backend":
        from dfad_fast.backends import use_backend

        return use_backend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
