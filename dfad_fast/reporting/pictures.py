"""A run's pictures: generated images with both networks' labels, and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dfad_fast.runs.summary import Summary

_COLUMNS = 8
_LARGEST = 128  # pixels per side of a shown image: larger images are shrunk
_NARROWEST = 2  # largest aspect ratio of an image's cell
_HIGHEST = 16.0  # largest height of a picture in inches


def brightness(images: Tensor, normalized_by: tuple[Tensor, Tensor] | None) -> Tensor:
    """Images [N, C, H, W] in [0, 1]: their true values, or each scaled from its minimum to its maximum."""
    if normalized_by:
        mean, std = (value.to(images) for value in normalized_by)
        return (images * std + mean).clamp(0, 1)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-6)


def shrink(images: Tensor, largest: int = _LARGEST) -> Tensor:
    """Images [N, C, H, W] with at most ``largest`` pixels per side, in float32. Larger ones are shrunk by averaging."""
    scale = largest / max(images.shape[2:])
    if scale >= 1:
        return images.float()
    size = [max(1, round(side * scale)) for side in images.shape[2:]]
    return F.interpolate(images.float(), size, mode="area")


def draw_samples(
    path: Path, images: Tensor, teacher: Tensor, student: Tensor, size: tuple[int, int] | None = None
) -> None:
    """Draws a grid of images [N, C, H, W] in [0, 1], each with the teacher's label, and the student's if it differs.

    The picture has at most 880 x 1760 pixels for any image shape. ``size``: height and width of the images before they
    were shrunk; the title states it.
    """
    from matplotlib.figure import Figure

    images = shrink(images)
    count, channels, height, width = images.shape
    rows = -(-count // _COLUMNS)
    # White margin beside very narrow images, because otherwise the label would not fit.
    place_y, place_x = max(height, width // _NARROWEST), max(width, height // _NARROWEST)
    # Room for the label above each image.
    cell_y = place_y + max(2, round(place_y * 0.4))
    cell_x = place_x + max(1, place_x // 8)
    sheet = torch.ones(rows * cell_y, _COLUMNS * cell_x, 3, device="cpu")
    figure_height = min(_HIGHEST, 8 * sheet.shape[0] / sheet.shape[1] + 0.4)
    figure = Figure(figsize=(8, figure_height), layout="constrained")
    axis = figure.add_subplot()
    shown = images.permute(0, 2, 3, 1).cpu()
    if channels != 3:
        shown = shown[..., :1].expand(-1, -1, -1, 3)
    for index in range(count):
        top = (index // _COLUMNS + 1) * cell_y - height
        left = index % _COLUMNS * cell_x + (place_x - width) // 2
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
    shrunk = ""
    if size and size != (height, width):
        shrunk = f", {size[0]}x{size[1]} pixels each, shown as {height}x{width}"
    title = f"Generated images under the teacher's label (red: the student differs){shrunk}"
    figure.suptitle(title, fontsize=10, wrap=True)
    figure.savefig(path, dpi=110)


def draw_curves(path: Path, history: Sequence[Mapping[str, Any]], summary: Summary) -> None:
    """Draws accuracy and agreement, all terms, and the generator's classes over the number of generated images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4), layout="constrained")
    quality, losses, generated = figure.subplots(1, 3)
    lines: dict[str, tuple[str, dict[str, Any]]] = {
        "student_accuracy": ("student's accuracy, test images", {}),
        "agreement": ("agreement with the teacher, test images", {}),
        "agreement_generated": ("agreement, held-out generated images", {}),
        "agreement_batch": ("agreement, generated batch", {"alpha": 0.4, "linewidth": 1}),
    }
    for key, (label, style) in lines.items():
        points = [(r["generated_images"], 100 * r[key]) for r in history if key in r]
        if points:
            quality.plot(*zip(*points, strict=True), label=label, **style)
    if summary.teacher_accuracy is not None:
        accuracy = 100 * summary.teacher_accuracy
        quality.axhline(accuracy, color="black", linestyle=":", label="teacher's accuracy")
    quality.set(xlabel="generated images", ylabel="%", title=f"{summary.method}, seed {summary.seed}")
    quality.set_ylim(top=101)
    for name in [key for key in history[-1] if "/" in key] if history else []:
        points = [(r["generated_images"], r[name]) for r in history if name in r]
        losses.plot(*zip(*points, strict=True), label=name)
    losses.set(xlabel="generated images", title="terms, unweighted", yscale="log")
    generated.set(
        xlabel="generated images", title="held-out generated images", ylabel="effective number of classes"
    )
    for axis, key, label, color in (
        (generated, "effective_classes_generated", f"classes, of {summary.classes}", "C0"),
        (generated.twinx(), "discrepancy_generated", "discrepancy", "C1"),
    ):
        points = [(r["generated_images"], r[key]) for r in history if key in r]
        if points:
            axis.plot(*zip(*points, strict=True), label=label, color=color)
            axis.legend(fontsize=8, loc="upper left" if color == "C0" else "upper right")
        axis.set_ylim(bottom=0)
    for axis in (quality, losses):
        if axis.has_data():
            axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
