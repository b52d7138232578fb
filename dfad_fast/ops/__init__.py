"""Drop-in ops on tensors. Each op's file holds the formula, the reference, the public function and the fake kernel."""

from dfad_fast import backends
from dfad_fast.ops import _triton
from dfad_fast.ops.batch_norm import batch_norm_act
from dfad_fast.ops.batch_norm_statistics import batch_norm_statistics_loss
from dfad_fast.ops.boundary_hinge import boundary_hinge_loss, boundary_hinge_loss_with_agreement
from dfad_fast.ops.channels import channel_statistics
from dfad_fast.ops.generator import generator_block
from dfad_fast.ops.interpolated import interpolated_l1
from dfad_fast.ops.kl import kl_discrepancy
from dfad_fast.ops.l1 import l1_discrepancy
from dfad_fast.ops.mixing import mixup, virtual_batch
from dfad_fast.ops.narrow import narrow_conv2d, narrow_conv2d_with_statistics
from dfad_fast.ops.packed_signs import PackedSigns, pack_signs
from dfad_fast.ops.winograd import WinogradWeight, winograd_conv2d, winograd_weight

__all__ = [
    "PackedSigns",
    "WinogradWeight",
    "batch_norm_act",
    "batch_norm_statistics_loss",
    "boundary_hinge_loss",
    "boundary_hinge_loss_with_agreement",
    "channel_statistics",
    "generator_block",
    "interpolated_l1",
    "kl_discrepancy",
    "l1_discrepancy",
    "mixup",
    "narrow_conv2d",
    "narrow_conv2d_with_statistics",
    "pack_signs",
    "virtual_batch",
    "winograd_conv2d",
    "winograd_weight",
]

backends.offer_triton(_triton.register)
backends.apply_environment()
