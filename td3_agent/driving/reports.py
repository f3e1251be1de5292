# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reports of nodes: the status of a node, and the fields of a frame.

A frame report comes over the network and goes into the ledger: unknown names, values of the wrong
form and long texts are rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from td3_agent.driving.endpoints import Finding

CAUSE = 'cause'  # value of a status: the key of its worst finding

MOST_FIELDS = 64
LONGEST_TEXT = 1024
MOST_NUMBERS = 16
LATEST_NS = (1 << 63) - 1
SHOWN_CHARACTERS = 60
SHA256 = re.compile('[0-9a-f]{64}')
WORD = re.compile('[a-z_]{1,40}')
DIGITS = re.compile('[0-9]{1,19}')
NUMBER = re.compile(r'-?[0-9]{1,30}(\.[0-9]{1,30})?(e[-+][0-9]{1,3})?')


def _timestamp(text: str) -> int | None:
    return int(text) if DIGITS.fullmatch(text) and int(text) <= LATEST_NS else None


def _numbers(text: str) -> list[float] | None:
    words = text.split()
    if len(words) > MOST_NUMBERS or not all(map(NUMBER.fullmatch, words)):
        return None
    found = [float(word) for word in words]
    return found if all(map(math.isfinite, found)) else None


def _hash(text: str) -> str | None:
    return text if SHA256.fullmatch(text) else None


def _word(text: str) -> str | None:
    return text if WORD.fullmatch(text) else None


def _text(text: str) -> str | None:
    return text if len(text) <= LONGEST_TEXT else None


# How the text of a field is parsed, None if it is invalid; and the valid form.
Check = tuple[Callable[[str], object], str]
TIMESTAMP: Check = (_timestamp, 'a steady time [ns]')
NUMBERS: Check = (_numbers, f'up to {MOST_NUMBERS} finite numbers, separated by spaces')
HASH: Check = (_hash, '64 hexadecimal digits')
AGENT_FIELDS: dict[str, Check] = {
    'observation_sha256': HASH,
    'action': NUMBERS,
    'action_sha256': HASH,
    'twist': NUMBERS,
    'agent_error': (_text, f'a text of up to {LONGEST_TEXT} characters'),
    'image_received_ns': TIMESTAMP,
    'image_prepared_ns': TIMESTAMP,
    'odometry_received_ns': TIMESTAMP,
    'observed_ns': TIMESTAMP,
    'decided_ns': TIMESTAMP,
    'twist_published_ns': TIMESTAMP,
}
GATE_FIELDS: dict[str, Check] = {
    'outcome': (_word, 'lower-case letters and underscores, at most 40'),
    'twist_received_ns': TIMESTAMP,
    'gate_published_ns': TIMESTAMP,
}
ALL_FIELDS = AGENT_FIELDS | GATE_FIELDS


def field_text(value: object) -> str:
    """Return a value as text; a list as its numbers with spaces between."""
    return ' '.join(map(str, value)) if isinstance(value, list) else str(value)


def checked_fields(pairs: Iterable[tuple[str, str]], known: dict[str, Check]) -> dict[str, Any]:
    """Return the parsed fields of a report.

    Args:
        pairs: names, and values as :func:`field_text` gives them.
        known: :data:`AGENT_FIELDS` or :data:`GATE_FIELDS`.

    Raises:
        ValueError: an unknown name, or an invalid value.
    """
    fields: dict[str, Any] = {}
    for name, text in pairs:
        if len(fields) >= MOST_FIELDS:
            raise ValueError(f'a report must have at most {MOST_FIELDS} fields')
        if name not in known:
            raise ValueError(f'a report has no field {shown(name)}')
        read, expected = known[name]
        value = read(text)
        if value is None:
            raise ValueError(f'{name} must be {expected}, got {shown(text)}')
        fields[name] = value
    return fields


def shown(value: object) -> str:
    """Return a value for a sentence, shortened where it would flood the log."""
    text = repr(value[:SHOWN_CHARACTERS]) if isinstance(value, str) else repr(value)
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f'{text}... ({len(value)} characters)'
    return text


@dataclass(frozen=True)
class Status:
    """The status of a node.

    Attributes:
        message: one sentence: the fault and its remedy, or the normal state.
        is_error: whether the node cannot work.
        is_warning: whether the node works with a fault.
        values: figures.
        console: text for the log, written when it changes.
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
