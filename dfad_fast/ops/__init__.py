"""Drop-in ops: tensors in, tensors out. Each op's file holds formula, reference, public function and fake."""

from dfad_fast import backends

backends.apply_environment()

from dfad_fast.ops.boundary_hinge import boundary_hinge_loss  # noqa: E402
from dfad_fast.ops.l1 import l1_discrepancy  # noqa: E402
from dfad_fast.ops.mixing import mixup, virtual_batch  # noqa: E402

__all__ = ["boundary_hinge_loss", "l1_discrepancy", "mixup", "virtual_batch"]
