"""Where a vision transformer's attention modules give their tokens."""

from __future__ import annotations

from torch import Tensor, nn

from dfad_fast.models.loading.programs import is_opaque
from dfad_fast.models.reading.events import Tap
from dfad_fast.models.reading.tracing import trace


def find_attention(network: nn.Module, images: Tensor) -> list[Tap]:
    """The outputs of the attention modules of ``network``, in order, found by one forward pass of ``images``.

    Rule: modules whose class has "attention" in its name, such as torch's MultiheadAttention and those of timm,
    torchvision and transformers, that return tokens [B, N + H W, C] in the image's proportions, with up to 5 tokens in
    front, or [B, H, W, C]. If such a module is inside another one, the outer one counts. Modules that return windows
    instead of whole images are left out. None in a program or a black box.
    """
    if is_opaque(network):
        return []
    outputs = trace(network, images).outputs
    found = [
        path
        for path, module in network.named_modules()
        if "attention" in type(module).__name__.lower()
        and path in outputs
        and (outputs[path].channels_last or outputs[path].extra_tokens is not None)
    ]
    outermost = {path for path in found if not any(path.startswith(f"{other}.") for other in found)}
    return [tap for path, tap in outputs.items() if path in outermost]
