"""The page itself: the template filled with its parts."""

from __future__ import annotations

import base64
import hashlib
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from dfad_fast.errors import DFADFastWarning, in_one_line, with_kind
from dfad_fast.reporting.report_page import images, sections
from dfad_fast.reporting.report_page.curves import curves
from dfad_fast.reporting.report_page.inspected import inspection
from dfad_fast.reporting.report_page.numbers import count, size
from dfad_fast.runs.layout import INSPECTION, REPORT
from dfad_fast.runs.record import Record, read
from dfad_fast.runs.whole_files import write_whole
from dfad_fast.version import __version__

_PARTS: dict[str, Callable[[Record], Any]] = {
    "figures": sections.figures,
    "failure": sections.failure,
    "summary": sections.summary_table,
    "charts": curves,
    "curves_picture": lambda record: images.picture(record.curves),
    "samples": images.samples,
    "strip": images.strip,
    "inspection": inspection,
    "settings": sections.settings,
    "environment": sections.environment,
}


def write_page(folder: str | Path, out: Path | None = None) -> Path:
    """Writes the page of the run in ``folder`` to its ``report.html`` or to ``out``, and returns the path.

    Raises UsageError if the folder holds no run, and RunError if the page cannot be written.
    """
    folder = Path(folder)
    page = render(read(folder))
    path = out or folder / REPORT
    # A folder's name may not be valid text.
    write_whole(path, lambda p: p.write_bytes(page.encode("utf-8", "replace")))
    return path


def write_page_if_possible(folder: Path) -> None:
    """Writes the page, or warns if it cannot: a page must not cost a run."""
    try:
        write_page(folder)
    except Exception as error:
        reason = with_kind(error, in_one_line(error, 300))
        warnings.warn(
            f"{REPORT} of {folder} was not written ({reason})",
            DFADFastWarning,
            stacklevel=2,
        )


def render(record: Record) -> str:
    """The page's HTML. It names each part that is left out because its values are invalid."""
    from jinja2 import Environment, StrictUndefined

    missing = list(record.missing)
    parts: dict[str, Any] = {}
    for name, make in _PARTS.items():
        try:
            parts[name] = make(record)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            parts[name] = None
            missing.append(f"{name}: values that cannot be shown ({with_kind(error, in_one_line(error))})")
    if not record.inspection:
        missing.append(f"{INSPECTION} is missing: run dfad-fast inspect to create it")
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("page.html")).render(
        version=__version__,
        style=_resource("page.css"),
        script=script,
        script_digest=digest,
        headline=sections.headline(record),
        checkpoints=[
            {
                "name": checkpoint.name,
                "iteration": "damaged" if checkpoint.iteration is None else count(checkpoint.iteration),
                "size": size(checkpoint.size),
                "written": f"{checkpoint.written:%Y-%m-%d %H:%M} UTC",
            }
            for checkpoint in record.checkpoints
        ],
        missing=missing,
        **parts,
    )


def _resource(name: str) -> str:
    return (files("dfad_fast.reporting.report_page") / name).read_text(encoding="utf-8")
