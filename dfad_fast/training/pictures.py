"""A run's pictures: generated images with both networks' labels, and its curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfad_fast.errors import UsageError

_COLUMNS = 8


def normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation as [C, 1, 1]; None where neither is given. Raises UsageError where they do not fit."""
    if mean is None and std is None:
        return None
    if mean is None or std is None or len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise UsageError(
            f"mean and std are given together, one value for each of {channels} channels, std > 0; "
            f"got mean {mean} and std {std}"
        )
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)


def brightness(images: Tensor, normalised_by: tuple[Tensor, Tensor] | None) -> Tensor:
    """Images [N, C, H, W] from 0 to 1: their true values, or each from its darkest to its brightest."""
    if normalised_by:
        mean, std = (value.to(images) for value in normalised_by)
        return (images * std + mean).clamp(0, 1)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-6)


def draw_samples(path: Path, images: Tensor, teacher: Tensor, student: Tensor) -> None:
    """A grid of images [N, C, H, W] from 0 to 1, each under the teacher's label, and the student's if it differs."""
    from matplotlib.figure import Figure

    count, channels, height, width = images.shape
    rows = -(-count // _COLUMNS)
    margin_x, margin_y = (
        max(1, width // 8),
        max(2, round(height * 0.4)),
    )  # room for the label above each image
    cell_y, cell_x = height + margin_y, width + margin_x
    sheet = torch.ones(rows * cell_y, _COLUMNS * cell_x, 3)
    figure = Figure(figsize=(8, 8 * sheet.shape[0] / sheet.shape[1] + 0.4), layout="constrained")
    axis = figure.add_subplot()
    shown = images.permute(0, 2, 3, 1).cpu()
    if channels != 3:
        shown = shown[..., :1].expand(-1, -1, -1, 3)
    for index in range(count):
        top, left = index // _COLUMNS * cell_y + margin_y, index % _COLUMNS * cell_x
        sheet[top : top + height, left : left + width] = shown[index]
        t, s = int(teacher[index]), int(student[index])
        axis.text(
            left + width / 2 - 0.5,
            top - 0.8,
            str(t) if t == s else f"{t}, student {s}",
            ha="center",
            va="bottom",
            fontsize=8,
            color="black" if t == s else "firebrick",
        )
    axis.imshow(sheet.numpy(), interpolation="nearest")
    axis.set_axis_off()
    figure.suptitle("Generated images under the teacher's label (red: the student differs)", fontsize=10)
    figure.savefig(path, dpi=110)


def draw_curves(path: Path, history: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Accuracy and agreement, and every term, against the number of generated images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    quality, losses = figure.subplots(1, 2)
    lines: dict[str, tuple[str, dict[str, Any]]] = {
        "student_accuracy": ("student's accuracy, test images", {}),
        "agreement": ("agreement with the teacher, test images", {}),
        "agreement_batch": ("agreement, generated batch", {"alpha": 0.4, "linewidth": 1}),
    }
    for key, (label, style) in lines.items():
        points = [(r["generated_images"], 100 * r[key]) for r in history if key in r]
        if points:
            quality.plot(*zip(*points, strict=True), label=label, **style)
    if summary["teacher_accuracy"] is not None:
        quality.axhline(
            100 * summary["teacher_accuracy"], color="black", linestyle=":", label="teacher's accuracy"
        )
    quality.set(xlabel="generated images", ylabel="%", title=f"{summary['method']}, seed {summary['seed']}")
    quality.set_ylim(top=101)
    for name in [key for key in history[-1] if "/" in key] if history else []:
        points = [(r["generated_images"], r[name]) for r in history if name in r]
        losses.plot(*zip(*points, strict=True), label=name)
    losses.set(xlabel="generated images", title="terms, unweighted", yscale="log")
    for axis in (quality, losses):
        if axis.has_data():
            axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
