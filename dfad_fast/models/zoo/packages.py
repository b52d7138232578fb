"""Image classifiers of timm, torchvision and Hugging Face's transformers, if installed.

Nothing is ever downloaded: weights are random, or read from a local folder (``hf:``) or file (``load_weights``).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor, nn

from dfad_fast.errors import UsageError, first_line
from dfad_fast.importing import import_package

_WEIGHTS = ("*.safetensors", "*.bin")


def is_packaged(name: str) -> bool:
    """Whether ``name`` has a form for :func:`create_packaged_network`."""
    return name.partition(":")[0] in _PACKAGES and ":" in name


def has_weights(name: str) -> bool:
    """Whether ``name`` names a folder with weights, ``hf:DIR``."""
    package, _, folder = name.partition(":")
    return package == "hf" and any(
        path for pattern in _WEIGHTS for path in Path(os.path.expanduser(folder)).glob(pattern)
    )


def create_packaged_network(
    name: str, image_shape: tuple[int, int, int], classes: int | None = None
) -> nn.Module:
    """The network of ``timm:NAME``, ``torchvision:NAME`` or ``hf:DIR``, unmodified, with random weights.

    ``hf:DIR`` is a folder written by ``save_pretrained``, with its weights if there are any; the network returns only
    the logits and is converted to float32. Without ``classes`` it has the package's default number.

    Raises UsageError for a package that is not installed, an unknown name, a folder without an image classifier, and a
    network that cannot be built for the shape.
    """
    package, _, rest = name.partition(":")
    try:
        return _PACKAGES[package](rest, image_shape, classes)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{name} could not be built: {first_line(error)}: choose another network") from error


def _from_timm(name: str, image_shape: tuple[int, int, int], classes: int | None) -> nn.Module:
    timm = import_package("timm")
    # Also rejects names that timm would look up on a server.
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    options = {
        "pretrained": False,
        "in_chans": image_shape[0],
        **({"num_classes": classes} if classes else {}),
    }
    try:
        return timm.create_model(name, img_size=image_shape[1:], **options)
    except TypeError:  # convolutional networks have no image size
        return timm.create_model(name, **options)


def _from_torchvision(name: str, image_shape: tuple[int, int, int], classes: int | None) -> nn.Module:
    models = import_package("torchvision").models
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    if image_shape[0] != 3:
        raise UsageError(
            f"torchvision's networks need images of 3 channels, got {image_shape[0]}: choose another network"
        )
    return models.get_model(name, weights=None, **({"num_classes": classes} if classes else {}))


def _from_folder(name: str, _image_shape: tuple[int, int, int], classes: int | None) -> nn.Module:
    folder = Path(os.path.expanduser(name))
    if not (folder / "config.json").is_file():
        raise UsageError(f"hf:{name}: expected a local folder with a config.json, written by save_pretrained")
    transformers = import_package("transformers")
    classifier = transformers.AutoModelForImageClassification
    if has_weights(f"hf:{name}"):
        loaded = classifier.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return _Logits(loaded).float()
    options = {"num_labels": classes} if classes else {}
    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **options
    )
    return _Logits(classifier.from_config(config, trust_remote_code=False)).float()


class _Logits(nn.Module):
    """Returns only the logits of a network that returns more."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images).logits


def _unknown(package: str, name: str, known: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else "see its list_models()"
    return UsageError(f"{package} has no network {name!r}: {hint}")


_PACKAGES: dict[str, Callable[[str, tuple[int, int, int], int | None], nn.Module]] = {
    "timm": _from_timm,
    "torchvision": _from_torchvision,
    "hf": _from_folder,
}
