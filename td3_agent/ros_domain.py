# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS domain of an environment, read as rcl reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = 'ROS_DOMAIN_ID'
LAST_DOMAIN_ID = 232  # higher ones have no ports
LAST_SAFE_DOMAIN = 101  # the ports of higher ones are ephemeral on Linux
# RTPS 2.2, 9.6.1.1: unicast discovery port of participant k of a domain.
PORT_BASE, PORT_DOMAIN_GAIN, PORT_UNICAST, PORT_PARTICIPANT_GAIN = 7400, 250, 10, 2
# rcl calls strtoul with base 0.
C_NUMBER = re.compile(r'\s*\+?(?:0[xX](?P<hex>[\da-fA-F]+)|(?P<octal>0[0-7]*)|(?P<plain>\d+))')
BASES = {'hex': 16, 'octal': 8, 'plain': 10}


def given_domain_id(environment: Mapping[str, str]) -> str:
    """Return the text of ROS_DOMAIN_ID; 0, as in rcl, if it is unset or empty."""
    return environment.get(VARIABLE) or '0'


def read_domain_id(text: str) -> int | None:
    """Return the domain that rcl reads from ROS_DOMAIN_ID; None if rcl rejects the text.

    A leading 0 means octal, 0x hexadecimal. Text after the number is ignored, except after a 0.
    """
    match = C_NUMBER.match(text)
    if match is None:
        return None
    kind = match.lastgroup or ''
    number = int(match[kind], BASES[kind])
    if number > LAST_DOMAIN_ID or not (number or match.end() == len(text)):
        return None
    return number


def domain_id_of(environment: Mapping[str, str]) -> int:
    """Return the domain of an environment.

    Raises:
        ValueError: it has no valid domain; the middleware would abort the process.
    """
    text = given_domain_id(environment)
    domain_id = read_domain_id(text)
    if domain_id is None:
        raise ValueError(f'{VARIABLE} must be a number from 0 to {LAST_DOMAIN_ID}, got {text}')
    return domain_id
