"""Generated images as data URIs: the last ones with both networks' labels, and the same noise over the run."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from dfad_fast.reporting.report_page.numbers import count
from dfad_fast.runs.record import Record
from dfad_fast.runs.sheet_file import Sheet

_MOST_MOMENTS = 12
_FOLLOWED = 8  # images in each moment of the strip


def samples(record: Record) -> dict[str, Any] | None:
    """The images of the last sheet, or samples.png of an older run."""
    if not record.sheets:
        return {"picture": _data_uri(record.samples)} if record.samples else None
    last = record.sheets[-1]
    alike = sum(t == s for t, s in zip(last.teacher, last.student, strict=True))
    return {
        "images": _labeled(last, len(last.images)),
        "iteration": count(last.iteration),
        "alike": f"{alike} of {len(last.images)}",
    }


def strip(record: Record) -> list[dict[str, Any]]:
    """The first images at each moment; if there are many moments, an even selection."""
    kept = record.sheets
    if len(kept) < 2:
        return []
    if len(kept) > _MOST_MOMENTS:
        step = (len(kept) - 1) / (_MOST_MOMENTS - 1)
        kept = [kept[round(i * step)] for i in range(_MOST_MOMENTS)]
    return [{"iteration": count(sheet.iteration), "images": _labeled(sheet, _FOLLOWED)} for sheet in kept]


def _labeled(sheet: Sheet, images: int) -> list[dict[str, Any]]:
    seen = zip(sheet.images[:images], sheet.teacher, sheet.student, strict=False)
    return [
        {"source": _png(image), "teacher": teacher, "student": student} for image, teacher, student in seen
    ]


def picture(data: bytes | None) -> str | None:
    """A PNG file's bytes for the page."""
    return _data_uri(data) if data else None


def _png(image: np.ndarray) -> str:
    """uint8 [H, W, 1 or 3]."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(file, "PNG", optimize=True)
    return _data_uri(file.getvalue())


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
