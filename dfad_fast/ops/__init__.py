"""Drop-in ops: tensors in, tensors out. Each op's file holds formula, reference, public function and fake."""

from dfad_fast import backends

backends.apply_environment()

from dfad_fast.ops.boundary_hinge import (  # noqa: E402
    boundary_hinge_loss,
    boundary_hinge_loss_with_agreement,
)
from dfad_fast.ops.interpolated import interpolated_l1  # noqa: E402
from dfad_fast.ops.kl import kl_discrepancy  # noqa: E402
from dfad_fast.ops.l1 import l1_discrepancy  # noqa: E402
from dfad_fast.ops.mixing import mixup, virtual_batch  # noqa: E402
from dfad_fast.ops.packed_signs import PackedSigns, pack_signs  # noqa: E402

__all__ = [
    "PackedSigns",
    "boundary_hinge_loss",
    "boundary_hinge_loss_with_agreement",
    "interpolated_l1",
    "kl_discrepancy",
    "l1_discrepancy",
    "mixup",
    "pack_signs",
    "virtual_batch",
]
