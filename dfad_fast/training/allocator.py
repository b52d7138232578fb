"""The C library's allocator, told to keep what a step frees for the next one."""

from __future__ import annotations

import ctypes
import platform

# From malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_TOP_PAD = 64 * 2**20


def pin_allocator() -> bool:
    """Keeps freed memory in the process, on glibc; returns whether that was possible.

    By default large blocks go back to the system when they are freed, and every step pays page faults for the same
    memory again. For the whole process, and not undone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD))
    accepted = [mallopt(parameter, value) == 1 for parameter, value in settings]
    return all(accepted)
