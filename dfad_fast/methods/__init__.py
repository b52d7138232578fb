"""Methods: one short file each, a table of weighted terms and a schedule."""

from __future__ import annotations

from torch import nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.methods.dfad import DFAD
from dfad_fast.methods.dfad_ar import DFAD_AR
from dfad_fast.methods.dfad_ar_vi import DFAD_AR_VI
from dfad_fast.methods.dfad_ar_vi_bn import DFAD_AR_VI_BN
from dfad_fast.methods.dfad_vi import DFAD_VI
from dfad_fast.methods.method import Method
from dfad_fast.models.batch_norm import batch_norm_layers

METHODS: dict[str, Method] = {m.name: m for m in (DFAD, DFAD_AR, DFAD_VI, DFAD_AR_VI, DFAD_AR_VI_BN)}


def choose_method(method: str | Method, teacher: nn.Module) -> Method:
    """The method by its name. ``auto`` uses the statistics of a teacher that has batch norm layers.

    That is ``dfad-ar-vi-bn`` where it has some and ``dfad-ar-vi`` where it has none. Raises UsageError for an
    unknown name, and for a method that reads batch norm statistics of a teacher without them.
    """
    if method == "auto":
        return DFAD_AR_VI_BN if batch_norm_layers(teacher) else DFAD_AR_VI
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown_name("method", method, ["auto", *METHODS])
        method = METHODS[method]
    if method.reads_statistics and not batch_norm_layers(teacher):
        raise UsageError(
            f"method {method.name!r} reads the statistics of batch norm layers and this teacher has none: "
            "choose 'dfad-ar-vi' or 'auto'"
        )
    return method


__all__ = ["DFAD", "DFAD_AR", "DFAD_AR_VI", "DFAD_AR_VI_BN", "DFAD_VI", "METHODS", "Method", "choose_method"]
