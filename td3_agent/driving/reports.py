# SPDX-License-Identifier: Apache-2.0
"""Frame reports: what agent and gate may say of a frame, and how it has to look.

A report comes over the network and goes into the ledger, so nothing in it is believed: names
that are not known, other types, numbers that are not finite and texts without end are refused.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_FACTS = 64
LONGEST_VALUE = 4096  # characters of JSON; an action takes 50
LONGEST_TEXT = 1024
MOST_NUMBERS = 16
LATEST_NS = (1 << 63) - 1
SHOWN_CHARACTERS = 60
SHA256 = re.compile('[0-9a-f]{64}')
WORD = re.compile('[a-z_]{1,40}')


def _is_instant(value: object) -> bool:
    return type(value) is int and 0 <= value <= LATEST_NS


def _is_number_list(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_NUMBERS
        and all(type(item) in {int, float} and abs(item) < math.inf for item in value)
    )


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_word(value: object) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


Check = tuple['Callable[[object], bool]', str]
INSTANT: Check = (_is_instant, 'a steady time [ns]')
NUMBERS: Check = (_is_number_list, f'a list of up to {MOST_NUMBERS} finite numbers')
HASH: Check = (_is_hash, '64 hexadecimal digits')
AGENT_FACTS: dict[str, Check] = {
    'observation_sha256': HASH,
    'action': NUMBERS,
    'action_sha256': HASH,
    'twist': NUMBERS,
    'agent_error': (_is_text, f'a text of up to {LONGEST_TEXT} characters'),
    'image_received_ns': INSTANT,
    'image_prepared_ns': INSTANT,
    'odometry_received_ns': INSTANT,
    'observed_ns': INSTANT,
    'decided_ns': INSTANT,
    'twist_published_ns': INSTANT,
}
GATE_FACTS: dict[str, Check] = {
    'outcome': (_is_word, 'lower-case letters and underscores, at most 40'),
    'twist_received_ns': INSTANT,
    'gate_published_ns': INSTANT,
}
ALL_FACTS = AGENT_FACTS | GATE_FACTS


def checked_facts(pairs: Iterable[tuple[str, str]], known: dict[str, Check]) -> dict[str, Any]:
    """Return the facts of a report by name.

    Args:
        pairs: names and JSON values.
        known: :data:`AGENT_FACTS` or :data:`GATE_FACTS`.

    Raises:
        ValueError: an unknown name, no JSON, or a value that is not what its name asks for.
    """
    facts: dict[str, Any] = {}
    for name, text in pairs:
        if len(facts) >= MOST_FACTS:
            raise ValueError(f'a report must have at most {MOST_FACTS} facts')
        if name not in known:
            raise ValueError(f'a report has no fact {shown(name)}')
        facts[name] = _decoded(name, text, *known[name])
    return facts


def _decoded(name: str, text: str, holds: Callable[[object], bool], wanted: str) -> object:
    """Return the JSON value of a fact.

    Raises:
        ValueError: naming fact, value and what was expected.
    """
    if len(text) > LONGEST_VALUE:
        raise ValueError(f'{name} must have <= {LONGEST_VALUE} characters, got {len(text)}')
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{name} must be JSON, got {shown(text)}') from error
    if not holds(value):
        raise ValueError(f'{name} must be {wanted}, got {shown(text)}')
    return value


def shown(value: object) -> str:
    """Return a value for a sentence, cut short where it would flood the log."""
    text = repr(value[:SHOWN_CHARACTERS]) if isinstance(value, str) else repr(value)
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f'{text}... ({len(value)} characters)'
    return text
