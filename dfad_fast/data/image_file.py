"""Opening a file of an image, whatever is wrong with it."""

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
    """The image in a file, of one of Pillow's ``formats``, or of any that it reads; its pixels are still packed.

    Raises UsageError, from within the block too, where the file is damaged or has more than 8 bits per pixel's channel.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=formats) as image:
            # Pillow would clip 16-bit gray at 255 and so turn it white.
            if image.mode.startswith(("I", "F")):
                raise UsageError(f"{path}: 16 bits per pixel or more; save it with 8")
            yield image
    except UsageError:
        raise
    # Beside OSError, Pillow raises SyntaxError, ValueError, struct.error and zlib.error for damaged files.
    except Exception as error:
        kind = "/".join(formats) if formats else "an image"
        raise UsageError(
            f"{path}: cannot be read as {kind} ({in_one_line(error)}); replace the file"
        ) from error
