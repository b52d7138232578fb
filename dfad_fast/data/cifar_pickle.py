"""Reads CIFAR's pickles without letting a pickle run code.

A pickle may name any function of any module and call it. Here the names in CIFAR's files resolve to stand-ins that only
record the array's bytes, and every other name is refused. NumPy's own unpickling does not see the file either, because
it trusts the file's types and sizes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

from dfad_fast.errors import UsageError


class _ElementType:
    """Stands in for numpy.dtype: keeps the type's code, ignores its details."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


class _Bytes:
    """Stands in for an array of unsigned bytes, filled by the state that follows it in the pickle."""

    __slots__ = ("array",)

    def __setstate__(self, state: tuple[object, tuple[int, ...], _ElementType, bool, bytes | str]) -> None:
        _, shape, element, by_column, raw = state
        if element.code != "u1":
            raise pickle.UnpicklingError(f"expected an array of bytes, got {element.code!r}")
        # A pickle of Python 2 holds bytes as text, which the reader decodes as latin1.
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        if any(size < 0 for size in shape) or math.prod(shape) != len(data):
            raise pickle.UnpicklingError(f"an array of shape {shape} cannot have {len(data)} bytes")
        self.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_column else "C")


# The stand-ins for functions are objects without attributes: a pickle can set attributes of a function or class.
class _Reconstruct:
    __slots__ = ()

    def __call__(self, kind: object, shape: object, code: object) -> _Bytes:
        return _Bytes()


class _DType:
    __slots__ = ()

    def __call__(self, code: str, align: object, copy: object) -> _ElementType:
        return _ElementType(code)


class _Encode:
    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
        return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _DType(),
    ("_codecs", "encode"): _Encode(),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {f'{module}.{name}'!r}, which no CIFAR file does"
            ) from None


def read_pickle(data: bytes, source: str) -> dict[str, Any]:
    """Read one CIFAR file (`data_batch_1`, `meta`, ...) into a dictionary.

    The values are those of the pickle: uint8 arrays, lists, strings, numbers. Byte keys, which some tools write, become
    strings; other keys are skipped.

    Raises:
        UsageError: the pickle is damaged, is not a dictionary or names something that CIFAR's files do not use. The
            message begins with `source`.
    """
    try:
        _check_sizes(data)
        content = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    # Damaged bytes can make the unpickler raise nearly any exception, some with a message of several lines.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{source}: not a CIFAR pickle ({reason}); fetch the file again") from error
    if not isinstance(content, dict):
        raise UsageError(f"{source}: expected a pickled dictionary, got {type(content).__name__}")
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: getattr(value, "array", value)
        for key, value in content.items()
        if isinstance(key, str | bytes)
    }


def _check_sizes(data: bytes) -> None:
    """Raise unless every size that the pickle claims fits into its data.

    The unpickler allocates memory from these claims before it reads the data: one damaged byte can cost 64 GB.
    """
    # genops itself raises if an argument is longer than the rest of the data.
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(data):
            raise pickle.UnpicklingError(f"it numbers an object {argument}, more than it can hold")
