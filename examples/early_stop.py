"""A callback with its own logging that ends a run once agreement no longer grows.

python examples/early_stop.py
"""

from typing import Any

import torch

from dfad_fast import DFADTrainer
from dfad_fast.models import create_network


class EarlyStop:
    """Ends a run when agreement on generated batches has not grown for ``patience`` records."""

    def __init__(self, trainer: DFADTrainer, patience: int) -> None:
        self.best, self.waited = 0.0, 0
        self._trainer, self._patience = trainer, patience

    def advance(self, iteration: int) -> None:
        """Called after every iteration, so it must be cheap."""

    def log(self, record: dict[str, Any]) -> None:
        """Called after every record of metrics."""
        agreement = record["agreement_batch"]
        print(f"iteration {record['iteration']}: agreement {agreement:.1%}")
        self.waited = 0 if agreement > self.best else self.waited + 1
        self.best = max(self.best, agreement)
        if self.waited >= self._patience:
            self._trainer.stop()


def main(iterations: int = 200, patience: int = 3) -> int:
    """Returns the number of iterations that were run."""
    torch.manual_seed(0)
    shape, classes = (1, 8, 8), 10
    teacher = create_network("resnet8-w16", shape, classes)  # in practice: a trained one
    student = create_network("resnet8-w16", shape, classes)
    trainer = DFADTrainer(teacher, student, shape, "dfad", batch_size=32)
    trainer.fit(iterations, log_every=2, progress=EarlyStop(trainer, patience))
    return trainer.iteration


if __name__ == "__main__":
    main()
