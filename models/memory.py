"""Keeping freed memory in the process, which glibc would return to the kernel.

A network allocates and frees arrays of many megabytes in every layer. By default glibc returns such
arrays to the kernel at once, and new ones cost page faults. On one core at 1024 x 1024 pixels these
took 40 % of the time: 370,000 voxels per second, 600,000 without them (2.85 and 1.75 s, AMD EPYC
with AVX-512, 2026-11-20). Results do not change.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> bool:
    """Keep freed memory for the rest of the process; false if the C library is not glibc.

    The resident memory of the process then stays at its peak.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not Linux, or another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
