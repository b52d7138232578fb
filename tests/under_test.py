"""The backend that this run of the tests is about, chosen by ``pytest --backend``, and what follows from it."""

from typing import TypeVar

PTX = ("cuda-ptx", "triton-ptx")  # what nvcc and Triton make of the kernels, in an emulator
BACKENDS = ("cpp", "triton", "cuda-shim", *PTX, "reference")

T = TypeVar("T")

backend = "cpp"


def emulated() -> bool:
    """Whether kernels run in an emulator: of PTX, Triton's interpreter, or CUDA threads as fibers of one CPU thread."""
    return backend in ("triton", "cuda-shim", *PTX)


def sized(full: T, emulated_: T) -> T:
    """Sizes of a test: those for a native backend, or fewer for one whose kernels are emulated."""
    return emulated_ if emulated() else full
