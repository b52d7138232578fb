"""Makes the C library's allocator keep the memory that a step frees for the next step, in huge pages."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

# From malloc.h and sys/mman.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MADV_HUGEPAGE = 14
_DISABLED = -1
_TOP_PAD = 64 * 2**20
_HUGE_PAGE = 2 * 2**20


@functools.cache
def pin_allocator() -> bool:
    """Keeps freed memory in the process, on glibc; returns whether that was possible.

    By default large freed blocks return to the system, and every step pays page faults for the same memory again.
    Also requests huge pages if the system offers them, since a step walks through gigabytes. Applies to the whole
    process and cannot be undone. Memory that is not used stays with the system.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _DISABLED), (_M_TOP_PAD, _TOP_PAD))
    accepted = [libc.mallopt(parameter, value) == 1 for parameter, value in settings]
    if all(accepted):
        _ask_for_large_pages(libc)
    return all(accepted)


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """Reserves the heap's next addresses, marks them for huge pages, and returns them to malloc.

    Their size is half of physical memory. Since trimming is off, malloc continues from there.
    """
    malloc, free, madvise = libc.malloc, libc.free, libc.madvise
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    start = malloc(size)
    if start is None:
        return
    aligned = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    madvise(aligned, start + size - aligned, _MADV_HUGEPAGE)
    free(start)
