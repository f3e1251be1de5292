# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""ROS_DOMAIN_ID is read as strtoul does; test_doctor_live.py compares with rcl."""

import pytest

from td3_agent.ros_domain import domain_id_of

READ = {'': 0, '0': 0, '7': 7, '010': 8, '0x10': 16, '0X1f': 31, ' 7': 7, '+7': 7, '7abc': 7}


@pytest.mark.parametrize(('text', 'domain_id'), (READ | {'232': 232}).items())
def test_domain_of_an_environment(text, domain_id):
    assert domain_id_of({'ROS_DOMAIN_ID': text}) == domain_id


def test_no_variable_is_the_default():
    assert domain_id_of({}) == 0


@pytest.mark.parametrize('text', ['abc', '-1', '233', '0xyz', '08', '0x', '0 '])
def test_what_is_no_domain_is_refused(text):
    with pytest.raises(ValueError, match=f'must be a number from 0 to 232, got {text}'):
        domain_id_of({'ROS_DOMAIN_ID': text})
