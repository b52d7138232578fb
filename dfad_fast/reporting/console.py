"""A rich console that prints names literally."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from dfad_fast.terminal import printable


class Console(rich.console.Console):
    """Escapes control characters in printed text, except those that rich itself emits."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes before rich measures the text's width."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escapes what rich did not get as text."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
