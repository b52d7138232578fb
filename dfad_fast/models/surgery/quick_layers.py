"""Runs a network's layers by this package's kernels inside a block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from dfad_fast.models.surgery.batch_norms import NORMS, normalized
from dfad_fast.models.surgery.convolutions import Convolutions, is_plain
from dfad_fast.models.surgery.followers import Follower, activate, find_followers
from dfad_fast.models.surgery.sums import Output, put_out


class QuickLayers:
    """The layers of ``network`` that the package's kernels compute faster than torch.

    With ``winograd``, 3x3 convolutions of stride 1 and at least 8 channels; with ``direct``, 3x3 and 1x1 ones of few
    channels; with ``norms``, batch norm layers. If a ReLU or LeakyReLU module is the only user of a layer's output, or
    of its sum with something, they run as one op, and the activation returns its input. This does not happen if a hook
    reads in between, or inside torch.utils.checkpoint. Modules, weights and hooks do not change, and nothing changes
    outside ``used()``. A network that cannot be copied or traced keeps its own sums and activations, as does one with
    ``alone``.

    With ``frozen`` weights are transformed once, at first use: later changes to them have no effect.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        frozen: bool = False,
        norms: bool = True,
        winograd: bool = True,
        direct: bool = True,
        alone: bool = False,
    ) -> None:
        self._convolutions = Convolutions(frozen, winograd, direct)
        self._ran: dict[nn.Module, tuple[bool, bool]] = {}  # with a sum, with an activation
        computed: dict[nn.Module, Callable[[Any, Tensor], Output | None]] = {}
        for module in network.modules():
            if norms and type(module) in NORMS and "forward" not in vars(module):
                computed[module] = normalized
            if (winograd or direct) and is_plain(module):
                computed[module] = self._convolutions.convolved
        behind: dict[nn.Module, Follower] = {}
        if computed and not alone:
            followers = find_followers(network, {type(module) for module in computed})
            behind = {follower.layer: follower for follower in followers if follower.layer in computed}
        self._forwards: dict[nn.Module, Callable[..., Any]] = {
            module: partial(self._forward, output_of, module, behind.get(module))
            for module, output_of in computed.items()
        }
        activations = {follower.activation for follower in behind.values()}
        self._forwards |= {activation: partial(activate, activation) for activation in activations}

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside the block the network uses these kernels."""
        # Skips modules that got another forward since, or that another network has already replaced.
        replaced = [module for module in self._forwards if "forward" not in vars(module)]
        for module in replaced:
            # Written to the dictionary, because nn.Module intercepts normal assignment.
            module.__dict__["forward"] = self._forwards[module]
        try:
            yield
        finally:
            for module in replaced:
                module.__dict__.pop("forward", None)

    def describe(self) -> dict[str, str]:
        """The kernels that computed the layers that ran, by kind."""
        norms = [module for module in self._ran if type(module) in NORMS]
        convolutions = [module for module in self._ran if type(module) not in NORMS]
        taken = Counter(" and ".join(sorted(self._convolutions.taken[module])) for module in convolutions)
        by = ", ".join(f"{count} {names}" for names, count in sorted(taken.items()))
        described = {}
        if convolutions:
            described["convolutions"] = by + self._behind(convolutions)
        if norms:
            described["batch norms"] = f"{len(norms)} by batch_norm_act" + self._behind(norms)
        return described

    def _behind(self, layers: Sequence[nn.Module]) -> str:
        added, activated = (sum(column) for column in zip(*(self._ran[m] for m in layers), strict=True))
        return f"; {added} with a sum, {activated} with an activation" if added or activated else ""

    # As for activate.
    def _forward(
        self,
        output_of: Callable[[Any, Tensor], Output | None],
        layer: nn.Module,
        behind: Follower | None,
        input: Tensor,
    ) -> Any:
        output = output_of(layer, input)
        if output is None:
            return type(layer).forward(layer, input)

        def compute(residual: Tensor | None, slope: float) -> Tensor:
            self._ran[layer] = residual is not None, slope != 1
            return output.compute(residual, slope)

        return put_out(Output(output.kind, compute), behind)
