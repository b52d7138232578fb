"""Opens image files and reports damaged ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dfad_fast.errors import UsageError, in_one_line

if TYPE_CHECKING:
    from PIL.Image import Image


@contextmanager
def opened_image(path: Path, formats: tuple[str, ...] | None = None) -> Iterator[Image]:
    """Opens an image file in one of Pillow's ``formats``, or in any that it reads, without decoding the pixels.

    Raises UsageError, also inside the block, if the file is damaged or has more than 8 bits per channel.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=formats) as image:
            # Pillow would clip 16-bit gray at 255, which turns it white.
            if image.mode.startswith(("I", "F")):
                raise UsageError(f"{path}: 16 bits per pixel or more; save it with 8")
            yield image
    except UsageError:
        raise
    # For damaged files Pillow raises, besides OSError, SyntaxError, ValueError, struct.error and zlib.error.
    except Exception as error:
        kind = "/".join(formats) if formats else "an image"
        raise UsageError(
            f"{path}: cannot be read as {kind} ({in_one_line(error)}); replace the file"
        ) from error
