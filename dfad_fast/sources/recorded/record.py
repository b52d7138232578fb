"""A record: statistics of a teacher's activations on its data, and their file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dfad_fast.errors import UsageError, in_one_line

FORM = "dfad_fast.record"
"""The entry of the file's header that says what the tensors are, as JSON."""
_VERSION = 1
_TENSORS = (
    "class_means",
    "class_variances",
    "class_counts",
    "cluster_classes",
    "cluster_counts",
    "cluster_means",
    "directions",
    "deviations",
)


@dataclass(frozen=True)
class About:
    """What a record is of.

    Attributes:
        teacher: checksum of the teacher's weights.
        image_shape: of its images, (C, H, W).
        last_layer: path of the linear layer whose input is recorded per class.
        taps: the stages whose channels are recorded, from the first to the deepest.
        images: how many were looked at.
        nonnegative: whether no feature of the last layer's input was below 0.
    """

    teacher: str
    image_shape: tuple[int, int, int]
    last_layer: str
    taps: tuple[str, ...]
    images: int
    nonnegative: bool


# eq=False: comparing tensors field by field would raise.
@dataclass(frozen=True, eq=False)
class Record:
    """Statistics of D features of the last layer's input, for K classes and N clusters with P directions each.

    All tensors are on the CPU: float32, counts and classes int64. A class is what the teacher answers.

    Attributes:
        class_means, class_variances: [K, D] of each feature; class_counts: [K] images.
        cluster_classes, cluster_counts: [N], the class of each cluster and its images.
        cluster_means: [N, D], the centroids. directions: [N, P, D], of norm 1; deviations: [N, P] along them.
        layers: for each tap mean and biased variance of each channel, [2, C], over images and places.
    """

    about: About
    class_means: Tensor
    class_variances: Tensor
    class_counts: Tensor
    cluster_classes: Tensor
    cluster_counts: Tensor
    cluster_means: Tensor
    directions: Tensor
    deviations: Tensor
    layers: Sequence[Tensor]

    @property
    def scale(self) -> float:
        """The deviation of a feature over all classes, root mean square over the features."""
        shares = (self.class_counts / self.class_counts.sum())[:, None]
        mean = (shares * self.class_means).sum(0)
        between = (shares * (self.class_means - mean).square()).sum(0)
        return float(((shares * self.class_variances).sum(0) + between).mean().sqrt())

    def tensors(self) -> dict[str, Tensor]:
        """By their names in the file."""
        named = {name: getattr(self, name) for name in _TENSORS}
        return named | {f"layer_{i}": layer for i, layer in enumerate(self.layers)}

    def header(self) -> dict[str, str]:
        """The file's metadata."""
        return {FORM: json.dumps({"version": _VERSION, **vars(self.about)})}


def read_record(path: str | Path) -> Record:
    """The record in a file that ``dfad-fast record`` wrote. Nothing in it is executed.

    Raises UsageError if it is missing, damaged, of another form, or holds values that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no record {path}: write one with dfad-fast record, where the teacher's data is")
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[FORM])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, which is no dictionary
        if (version := told.pop("version")) != _VERSION:
            raise UsageError(
                f"{path} is a record of version {version}, expected {_VERSION}: write it again with dfad-fast record"
            )
        shape = told.pop("image_shape")
        about = About(**{**told, "image_shape": tuple(shape), "taps": tuple(told["taps"])})
        layers = [tensors.pop(f"layer_{i}") for i in range(len(about.taps))]
        record = Record(about, **tensors, layers=layers)
        _check(record)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged or not a record ({in_one_line(error)}): write it again with dfad-fast record"
        ) from error
    return record


def _check(record: Record) -> None:
    """Raises ValueError if the tensors do not fit each other."""
    classes, features = record.class_means.shape
    clusters, directions, _ = record.directions.shape
    expected = {
        "class_means": (classes, features),
        "class_variances": (classes, features),
        "class_counts": (classes,),
        "cluster_classes": (clusters,),
        "cluster_counts": (clusters,),
        "cluster_means": (clusters, features),
        "directions": (clusters, directions, features),
        "deviations": (clusters, directions),
    }
    for name, shape in expected.items():
        tensor = getattr(record, name)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} is {list(tensor.shape)}, expected {list(shape)}")
        kind = torch.int64 if name.endswith(("counts", "classes")) else torch.float32
        if tensor.dtype != kind:
            raise ValueError(f"{name} is {tensor.dtype}, expected {kind}")
    for name, tensor in record.tensors().items():
        if name.startswith("layer_") and (
            tensor.dim() != 2 or len(tensor) != 2 or tensor.dtype != torch.float32
        ):
            raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, expected float32 [2, channels]")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite values")
    inside = (record.cluster_classes >= 0) & (record.cluster_classes < classes)
    if not clusters or not bool(inside.all()):
        raise ValueError(f"cluster_classes is empty or holds values outside 0 to {classes - 1}")
    if bool((record.class_counts < 0).any()) or bool((record.cluster_counts < 1).any()):
        raise ValueError("a count is too small")
    if not torch.equal(record.class_counts.nonzero().flatten(), record.cluster_classes.unique()):
        raise ValueError("the classes with images and the classes with clusters differ")
    if bool((record.class_variances < 0).any()) or bool((record.deviations < 0).any()):
        raise ValueError("a variance or deviation is negative")
