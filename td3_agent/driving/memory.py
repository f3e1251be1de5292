# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tuning of the C library's memory for many short-lived arrays."""

from __future__ import annotations

import ctypes
import sys

# From glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_BYTES = 1 << 25  # the largest M_MMAP_THRESHOLD that glibc takes
KEPT_BYTES = 1 << 30
PADDING_BYTES = 1 << 26


def keep_freed_memory() -> bool:
    """Keep freed memory for the next array, where glibc is the C library.

    By default glibc returns large blocks to the system, which then clears every page of the next
    block: with images that is a third of an update. The process never shrinks.

    Returns:
        Whether glibc has accepted the settings.
    """
    if not sys.platform.startswith('linux'):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, 'mallopt'):  # musl, for example
        return False
    settings = (
        (M_MMAP_THRESHOLD, LARGEST_BYTES),
        (M_TRIM_THRESHOLD, KEPT_BYTES),
        (M_TOP_PAD, PADDING_BYTES),
    )
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
