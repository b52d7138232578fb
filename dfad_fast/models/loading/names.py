"""Names of weights without the parts that wrappers add."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dfad_fast.private_torch import WRAPPER_NAMES

_WEIGHT_NORM = re.compile(r"parametrizations\.(\w+)\.original([01])$")
COUNTER = "num_batches_tracked"
# Names from thop, which counts operations, and from torch.optim.swa_utils.AveragedModel.
HARMLESS = {COUNTER, "total_ops", "total_params", "n_averaged"}


def plain_name(name: str) -> str:
    """A name without wrappers; weight norm's names in their older form."""
    name = ".".join(part for part in name.split(".") if part not in WRAPPER_NAMES)
    return _WEIGHT_NORM.sub(lambda m: f"{m[1]}_{'gv'[int(m[2])]}", name)


def plain_names(names: Iterable[str]) -> set[str]:
    """Names without wrappers and counters, which distinguish networks."""
    return {plain_name(name) for name in names if name.rpartition(".")[2] not in HARMLESS}


def by_plain_name(names: Iterable[str]) -> dict[str, str]:
    """Names by their plain names; unchanged where the plain name is not unique."""
    names = list(names)
    plain = {plain_name(name): name for name in names}
    return plain if len(plain) == len(names) else {name: name for name in names}


def prefixes(name: str) -> Iterator[str]:
    """All prefixes of a dotted name that end with a dot, the longest last."""
    for end in re.finditer(r"\.", name):
        yield name[: end.end()]
