"""GPUs as far as it matters here how many blocks they hold and how much must be on its way."""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
REGISTERS = 65536  # of a multiprocessor
REGISTER_UNIT = 256  # in which a warp gets them
BLOCKS = 32
BLOCK_SHARED = 1024  # bytes that the system takes of each block
LATENCY = 600e-9  # seconds from a load to its data under load: an assumption, as it is not published


@dataclass(frozen=True)
class Device:
    """A GPU's data sheet.

    Attributes:
        bandwidth: of its memory, bytes per second.
        multiprocessors: how many.
        threads: that one holds.
        shared: bytes that one has.
    """

    name: str
    bandwidth: float
    multiprocessors: int
    threads: int
    shared: int

    @property
    def wanted(self) -> float:
        """Bytes that each multiprocessor must have on their way: bandwidth times latency (Little's law)."""
        return self.bandwidth * LATENCY / self.multiprocessors

    def blocks(self, threads: int, registers: int, shared: int) -> int:
        """So many blocks of such a kernel it holds at a time."""
        warps = threads // WARP
        of_a_warp = -(-registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
        return min(
            BLOCKS,
            self.threads // threads,
            REGISTERS // of_a_warp // warps,
            self.shared // (shared + BLOCK_SHARED),
        )


DEVICES = {
    "sm_80": Device("A100 80GB SXM", 2.039e12, 108, 2048, 164 * 1024),
    "sm_90": Device("H100 SXM", 3.35e12, 132, 2048, 228 * 1024),
    "sm_100": Device("B200", 8.0e12, 148, 2048, 228 * 1024),
}
