# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS domain that an environment names, as rcl reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = 'ROS_DOMAIN_ID'
LAST_DOMAIN_ID = 232  # beyond, there are no ports
LAST_SAFE_DOMAIN = 101  # beyond, Linux hands the ports out to other programs
# RTPS 2.2, 9.6.1.1: unicast discovery port of participant k of a domain.
PORT_BASE, PORT_DOMAIN_GAIN, PORT_UNICAST, PORT_PARTICIPANT_GAIN = 7400, 250, 10, 2
# What strtoul with base 0 takes for a number: so rcl calls it.
C_NUMBER = re.compile(r'\s*\+?(?:0[xX](?P<hex>[\da-fA-F]+)|(?P<octal>0[0-7]*)|(?P<plain>\d+))')
BASES = {'hex': 16, 'octal': 8, 'plain': 10}


def given_domain_id(environment: Mapping[str, str]) -> str:
    """Return the text that names the domain; that of rcl's default where there is none."""
    return environment.get(VARIABLE) or '0'


def read_domain_id(text: str) -> int | None:
    """Return the domain that rcl makes of ROS_DOMAIN_ID; None where it makes none.

    A leading 0 means octal, 0x hexadecimal; what follows is not looked at, except after a 0.
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
        ValueError: it names none; the middleware would end the whole program.
    """
    text = given_domain_id(environment)
    domain_id = read_domain_id(text)
    if domain_id is None:
        raise ValueError(f'{VARIABLE} must be a number from 0 to {LAST_DOMAIN_ID}, got {text}')
    return domain_id
