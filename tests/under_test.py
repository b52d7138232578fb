"""The backend that this run of the tests is about, chosen by ``pytest --backend``, and what follows from it."""

from typing import TypeVar

BACKENDS = ("cpp", "triton", "cuda-shim", "reference")

T = TypeVar("T")

backend = "cpp"


def emulated() -> bool:
    """Whether kernels run in an emulator: Triton's interpreter, or CUDA threads as fibers of one CPU thread."""
    return backend in ("triton", "cuda-shim")


def sized(full: T, emulated_: T) -> T:
    """Sizes of a test: those for a native backend, or fewer for one whose kernels are emulated."""
    return emulated_ if emulated() else full
