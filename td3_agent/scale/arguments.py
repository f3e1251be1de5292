# SPDX-License-Identifier: Apache-2.0
"""The argument ``--ray`` of several verbs; it can be read where Ray is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

LOCAL = 'local'


def add_ray_argument(parser: argparse.ArgumentParser, about: str) -> None:
    """Declare ``--ray``; the value is None without it, :data:`LOCAL` without an address.

    Args:
        parser: of the verb.
        about: what Ray does for it.
    """
    parser.add_argument(
        '--ray',
        nargs='?',
        const=LOCAL,
        metavar='ADDRESS',
        help=f'{about}; ADDRESS is that of a cluster that this machine belongs to ("auto" finds '
        'it), without one a Ray of its own is started and ended',
    )
