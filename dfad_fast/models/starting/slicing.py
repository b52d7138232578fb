"""Cuts the student's weights out of the teacher's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dfad_fast.models.starting.channels import Layer, Map, Use
from dfad_fast.models.starting.moments import Moments, telling

Correction = Literal["factor", "least-squares", "none"]
"""Compensates for the channels missing in a sum: by a factor, by the remaining channels (least squares on images), or
not at all."""


class DoesNotFit(Exception):
    """Why a layer's weights cannot be taken."""


@dataclass(frozen=True)
class Slicer:
    """``chosen`` has the teacher's class of channels for each class of the student's."""

    of: Map
    to: Map
    chosen: Mapping[int, int]
    correction: Correction
    moments: Mapping[str, Moments]

    def cut(self, teacher: nn.Module, other: Layer, student: nn.Module, layer: Layer) -> dict[str, Tensor]:
        """New values of the student's ``layer``, by local name, from the teacher's ``other``.

        Raises DoesNotFit.
        """
        given = _own_tensors(teacher.get_submodule(other.path))
        asked = _own_tensors(student.get_submodule(layer.path))
        values: dict[str, Tensor] = {}
        rest: Tensor | None = None
        for name, tensor in asked.items():
            use, known = layer.uses.get(name), other.uses.get(name)
            if name not in given and name != "bias":
                raise DoesNotFit(f"the teacher's {other.path} has no {name}")
            if name not in given:
                values[name] = torch.zeros_like(tensor)  # like a layer without a bias
                continue
            value = given[name].detach()
            if use is None or known is None:
                if value.shape != tensor.shape:
                    raise DoesNotFit(f"{name} {list(tensor.shape)} does not fit {list(value.shape)}")
            elif name == "weight" and 1 in use.channels and use.groups == 1 and known.groups == 1:
                value, rest = self._summing(value, other.path, use, known)
            elif use.groups > 1 or known.groups > 1:
                value = self._grouped(value, use, known)
            else:
                for dim, own in use.channels.items():
                    value = value.index_select(dim, self._at(own, known.channels.get(dim), value.device))
            if value.shape != tensor.shape:
                raise DoesNotFit(f"{name} {list(tensor.shape)} does not fit {list(value.shape)}")
            values[name] = value
        if rest is not None and "bias" in values:
            values["bias"] = values["bias"] + rest.to(values["bias"])
        return values

    def _summing(self, weight: Tensor, path: str, use: Use, known: Use) -> tuple[Tensor, Tensor | None]:
        """A weight [out, in, ...] that sums over its input channels, and what the missing channels add to a bias.

        The addition is [out], None if it is not known.
        """
        weight = weight.index_select(0, self._at(use.channels[0], known.channels.get(0), weight.device))
        at = self._at(use.channels[1], known.channels.get(1), weight.device)
        if self.correction == "none" or len(at) == weight.shape[1]:
            return weight.index_select(1, at), None
        told = telling(self.moments, path, at.tolist()) if self.correction == "least-squares" else None
        if told is None:
            return weight.index_select(1, at) * (weight.shape[1] / len(at)), None
        spread, rest = (part.to(weight) for part in told)
        summed = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
        return torch.tensordot(weight, spread, dims=([1], [0])).movedim(-1, 1).contiguous(), summed @ rest

    def _grouped(self, weight: Tensor, use: Use, known: Use) -> Tensor:
        """A weight [out, in of a group, ...]: each group of the student must lie within one group of the teacher."""
        rows = self._at(use.channels[0], known.channels.get(0), weight.device)
        columns = self._at(use.channels[1], known.channels.get(1), weight.device)
        own_out, own_in = len(rows) // use.groups, len(columns) // use.groups
        out, width = len(weight) // known.groups, weight.shape[1]
        kept = []
        for i, row in enumerate(rows.tolist()):
            group, wanted = row // out, columns[i // own_out * own_in :][:own_in]
            inside = wanted - group * width
            if bool(((inside < 0) | (inside >= width)).any()):
                raise DoesNotFit("its groups do not lie within the teacher's")
            kept.append(weight[row].index_select(0, inside))
        return torch.stack(kept)

    def _at(self, own: Tensor, known: Tensor | None, device: torch.device) -> Tensor:
        """The teacher's positions of the student's channels ``own``.

        Repeated channels, such as the pixels of a flattened map, are taken in order.
        """
        if known is None:
            raise DoesNotFit("its channels could not be followed in the teacher")
        places: dict[int, list[int]] = defaultdict(list)
        for position, name in enumerate(self.of.classes.of_all(known)):
            places[name].append(position)
        found: list[int] = []
        met: dict[int, int] = defaultdict(int)
        names = self.to.classes.of_all(own)
        for name in names:
            there = places.get(self.chosen[name], []) if name in self.chosen else []
            if met[name] == len(there):
                raise DoesNotFit(_no_counterpart(own, known))
            found.append(there[met[name]])
            met[name] += 1
        if any(met[name] != len(places[self.chosen[name]]) for name in met):
            raise DoesNotFit("its input maps have another size")
        return torch.tensor(found, device=device)


def _no_counterpart(own: Tensor, known: Tensor) -> str:
    if len(own) > len(known):
        return f"it is wider than the teacher's ({len(own)} channels instead of {len(known)})"
    return "its channels come from other layers than in the teacher"


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return {name: tensor for name, tensor in own if name != "num_batches_tracked"}


def taken_parameters(values: Mapping[str, Tensor], module: nn.Module) -> int:
    """The number of parameters of ``module`` in ``values``."""
    names: Sequence[str] = [name for name, _ in module.named_parameters(recurse=False)]
    return sum(values[name].numel() for name in names if name in values)
