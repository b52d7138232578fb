"""Leads to the Triton kernels, which lie in the folder ``kernels`` beside this package.

A wheel holds that folder in place of this file (``package_dir`` in setup.py), so this is read in a checkout alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernels import batch_norm_act as batch_norm_act
    from kernels import boundary_hinge as boundary_hinge
    from kernels import channel_statistics as channel_statistics
    from kernels import interpolated as interpolated
    from kernels import kl as kl
    from kernels import l1 as l1
    from kernels import mixing as mixing
    from kernels import pack_signs as pack_signs

__path__ = [str(Path(__file__).parents[2] / "kernels")]
