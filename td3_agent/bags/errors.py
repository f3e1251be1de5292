# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a bag, in one sentence."""

from __future__ import annotations


class BagError(ValueError):
    """A bag cannot be read or written; the text names file, place and what was expected."""


class DamageError(BagError):
    """A file of a bag cannot be read from some place on; what comes before it can."""
