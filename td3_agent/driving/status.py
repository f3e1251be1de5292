# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself: one sentence, how bad it is, and the figures behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.driving.endpoints import Finding

CAUSE = 'cause'  # value of a status: the key of its worst finding


@dataclass(frozen=True)
class Status:
    """What a node says of itself.

    Attributes:
        message: one sentence; what is wrong and what to do, or that all is well.
        is_error: whether the node cannot do its work.
        is_warning: whether something is off though the node works.
        values: figures behind the sentence.
        console: what is waited for; written to the log when it changes.
    """

    message: str
    is_error: bool = False
    is_warning: bool = False
    values: dict[str, object] = field(default_factory=dict)
    console: str = ''


def loop_status(found: Sequence[Finding]) -> Status:
    """Return findings as one status, the worst first."""
    if not found:
        return Status('the loop drives as it should')
    ordered = sorted(found, key=lambda finding: not finding.is_error)
    is_error = ordered[0].is_error
    text = '; '.join(finding.text for finding in ordered)
    values: dict[str, object] = {CAUSE: ordered[0].key}
    return Status(text, is_error=is_error, is_warning=not is_error, values=values, console=text)
