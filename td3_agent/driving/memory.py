# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of the C library, tuned for arrays that come and go by the thousand."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_BYTES = 1 << 25  # the largest M_MMAP_THRESHOLD that glibc takes
KEPT_BYTES = 1 << 30
PADDING_BYTES = 1 << 26


def keep_freed_memory() -> bool:
    """Keep what is freed for the next array, where glibc is the C library.

    As it comes, glibc hands large blocks back to the system, and the system clears every page
    of the next one: with images that is a third of an update. The process stays as large as it
    has ever been.

    Returns:
        Whether it was done.
    """
    if not sys.platform.startswith('linux'):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, 'mallopt'):  # musl, say
        return False
    settings = (
        (M_MMAP_THRESHOLD, LARGEST_BYTES),
        (M_TRIM_THRESHOLD, KEPT_BYTES),
        (M_TOP_PAD, PADDING_BYTES),
    )
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
