"""What a black-box teacher may answer: logits, probabilities or hard labels, checked and brought to logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfad_fast.errors import RunError

ANSWERS = ("auto", "logits", "probabilities", "labels")
"""The kinds of answers; ``auto`` is recognized by the first ones."""

_LEAST = 1e-7  # a probability that was rounded to 0 has a logarithm too
_SURE = 40.0  # the softmax of such a logit beside zeros is 1 to float32


def check_answers(answers: Any, count: int, classes: int, kind: str) -> tuple[np.ndarray, str]:
    """The answers to ``count`` images as float32 [N, classes], or [N, 1] of hard labels, and their kind.

    Numbers may have further dimensions of size 1, such as [N, classes, 1, 1] of a convolution.

    Raises RunError for another shape, for NaN or infinite numbers, and for answers of another kind.
    """
    rows = _as_array(answers)
    if rows is None:
        raise RunError(
            f"the teacher returned {type(answers).__name__} instead of numbers: return a tensor or an array "
            "[N, classes], or [N] labels"
        )
    if rows.ndim > 2 and rows.shape[2:] == (1,) * (rows.ndim - 2):
        rows = rows.reshape(rows.shape[:2])
    labels = rows.ndim == 1
    if rows.shape != ((count,) if labels else (count, classes)):
        raise RunError(
            f"the teacher returned {list(rows.shape)} for {count} images, expected [{count}, {classes}] or [{count}] "
            "labels: check the number of classes, and return one answer per image"
        )
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise RunError(
            "the teacher returned NaN or numbers that are infinite in float32: check that it takes normalized images"
        )
    found = "labels" if labels else _recognized(rows) if kind == "auto" else kind
    if kind != "auto" and (kind == "labels") != labels:
        came = "labels" if labels else f"{classes} numbers per image"
        raise RunError(
            f"the teacher returned {came}, expected {kind}: name the kind with answers= (--teacher-answers)"
        )
    if labels and not (np.equal(rows, np.floor(rows)).all() and rows.min() >= 0 and rows.max() < classes):
        raise RunError(
            f"the teacher returned labels from {rows.min():g} to {rows.max():g}, expected integers from 0 to "
            f"{classes - 1}: check the number of classes"
        )
    if kind == "probabilities" and _recognized(rows) != kind:
        raise RunError(
            "the teacher returned numbers that are not probabilities (negative, or with a sum other than 1): choose "
            "answers='logits'"
        )
    return rows.reshape(count, -1), found


def _as_array(answers: Any) -> np.ndarray | None:
    """None for what holds no real numbers."""
    if isinstance(answers, Tensor):
        answers = answers.detach().cpu()
        answers = answers.float() if answers.dtype == torch.bfloat16 else answers  # which NumPy does not have
    try:
        rows = np.asarray(answers)
    except (TypeError, ValueError):
        return None
    return rows if np.issubdtype(rows.dtype, np.number) and not np.iscomplexobj(rows) else None


def _recognized(rows: np.ndarray) -> str:
    """Probabilities may be rounded, to two decimals or to bfloat16."""
    most = min(0.5, max(0.02, 0.005 * rows.shape[1]))
    sums = rows.sum(1, dtype=np.float64)
    fits = (rows >= 0).all() and (rows <= 1.02).all() and (abs(sums - 1) <= most).all()
    return "probabilities" if fits else "logits"


def as_logits(rows: Tensor, kind: str, classes: int) -> Tensor:
    """Logits [N, classes] of rows that :func:`check_answers` gave.

    Probabilities p give log p minus its mean over the classes: the teacher's logits up to a constant that is the same
    for all classes (DFME, Truong et al. 2021, arXiv 2011.14779, section 4). The sum of rounded probabilities does not
    matter. Hard labels give the logits of a teacher that is entirely sure.
    """
    if kind == "logits":
        return rows
    if kind == "labels":
        return _SURE * torch.nn.functional.one_hot(rows[:, 0].long(), classes).to(rows)
    logs = rows.clamp_min(_LEAST).log()
    return logs - logs.mean(1, keepdim=True)
