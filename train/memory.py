"""How the C library hands memory back: the one setting that speeds training on a CPU by a fifth."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of returning it to the system.

    Every step frees and allocates the same large tensors; returned pages have to be zeroed and mapped
    again (measured: 276 -> 341 images/s for dsa-reid-small on two cores). Elsewhere it does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, _NEVER)
