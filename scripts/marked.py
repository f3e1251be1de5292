# SPDX-License-Identifier: Apache-2.0
"""Text between markers in a document, renewed; shared by the scripts that write tables."""

from __future__ import annotations

import re


def renewed(document: str, block: str, text: str) -> str:
    """Return the document with ``text`` between ``<!-- block -->`` and ``<!-- end -->``.

    Raises:
        ValueError: the document does not have exactly one such block.
    """
    pattern = rf'(<!-- {re.escape(block)} -->\n)(?:(?!<!--).)*(<!-- end -->)'
    document, count = re.subn(
        pattern, lambda m: f'{m[1]}{text.rstrip()}\n{m[2]}', document, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f'the document must hold one block <!-- {block} -->, found {count}')
    return document
