"""Methods: one short file each, a table of weighted terms and a schedule."""

from __future__ import annotations

from dfad_fast.methods.dafl import DAFL
from dfad_fast.methods.dfad import DFAD
from dfad_fast.methods.dfad_ar import DFAD_AR
from dfad_fast.methods.dfad_ar_vi import DFAD_AR_VI
from dfad_fast.methods.dfad_ar_vi_bn import DFAD_AR_VI_BN
from dfad_fast.methods.dfad_vi import DFAD_VI
from dfad_fast.methods.dfq import DFQ
from dfad_fast.methods.method import Method
from dfad_fast.methods.zskt import ZSKT

METHODS: dict[str, Method] = {
    m.name: m for m in (DFAD, DFAD_AR, DFAD_VI, DFAD_AR_VI, DFAD_AR_VI_BN, ZSKT, DAFL, DFQ)
}

__all__ = [
    "DAFL",
    "DFAD",
    "DFAD_AR",
    "DFAD_AR_VI",
    "DFAD_AR_VI_BN",
    "DFAD_VI",
    "DFQ",
    "METHODS",
    "ZSKT",
    "Method",
]
