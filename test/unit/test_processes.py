# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A request to end is never lost, wherever in the program it comes up."""

from collections import deque
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from td3_agent import processes
from td3_agent.processes import INTERRUPTIONS, interruptions_noted


class Interrupted:
    """Is interrupted in its destructor, where Python drops every exception."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize('number', INTERRUPTIONS)
def test_interruption_in_a_destructor_is_not_lost(number):
    before = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored
    try:
        check_interruption(number)
    finally:
        signal.signal(number, before)


def check_interruption(number):
    with interruptions_noted() as interruption:
        interruption.check()
        Interrupted(number)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_handlers_are_handed_back():
    before = [signal.getsignal(number) for number in INTERRUPTIONS]
    with interruptions_noted():
        assert [signal.getsignal(number) for number in INTERRUPTIONS] != before
    assert [signal.getsignal(number) for number in INTERRUPTIONS] == before


def test_raised_where_it_can_be_and_noted_where_not(monkeypatch):
    with interruptions_noted(raising=True) as interruption:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interruption.happened
    lost = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda told: lost.append(told.exc_type))
    with interruptions_noted(raising=True) as interruption:
        Interrupted(signal.SIGINT)
        assert lost == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_patient_block_is_left_by_the_second_request():
    with interruptions_noted(raising=True, patient=True) as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.happened
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_hang_up_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptions_noted(raising=True) as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.happened
    finally:
        signal.signal(signal.SIGHUP, before)


class TestDomains:
    PORT_BASE = processes.PORT_BASE + 130  # between the ports that participants really use
    LOCK_ADDRESS = f'\0td3_agent_test_{os.getpid()}_'

    @pytest.fixture(autouse=True)
    def few(self, monkeypatch):
        monkeypatch.setattr(processes, 'DOMAIN_IDS', range(90, 93))
        monkeypatch.setattr(processes, 'PORT_BASE', self.PORT_BASE)
        monkeypatch.setattr(processes, '_locks', deque())
        monkeypatch.setattr(processes, 'LOCK_ADDRESS', self.LOCK_ADDRESS)
        yield
        for _, handle in processes._locks:
            os.close(handle)

    def test_nobody_is_given_a_domain_that_was_given_away_and_is_not_seen_in_use_yet(
        self, tmp_path
    ):
        given = {processes.free_domain_id() for _ in range(2)}
        assert len(given) == 2
        last = subprocess.check_output(
            [
                sys.executable,
                '-c',
                (
                    'import sys\n'
                    'from td3_agent import processes\n'
                    'processes.LOCK_ADDRESS = chr(0) + sys.argv[1]\n'
                    'processes.DOMAIN_IDS = range(90, 93)\n'
                    'processes.PORT_BASE = int(sys.argv[2])\n'
                    'print(processes.free_domain_id())'
                ),
                self.LOCK_ADDRESS[1:],
                str(self.PORT_BASE),
            ],
            env=dict(os.environ, TMPDIR=str(tmp_path)),  # where it looks for files, if it does
            text=True,
        )
        assert int(last) not in given

    def test_a_domain_is_waited_for_while_locks_keep_all(self, monkeypatch):
        monkeypatch.setattr(processes, 'LOCK_S', 1.0)
        given = [processes.free_domain_id() for _ in range(3)]
        assert processes.free_domain_id() in given

    def test_all_in_use_is_said(self, monkeypatch):
        monkeypatch.setattr(processes, 'DOMAIN_WAIT_S', 0.5)
        for _ in range(3):
            processes.free_domain_id()
        with pytest.raises(RuntimeError, match='all ROS domain ids'):
            processes.free_domain_id()

    def test_lock_is_let_go_when_participants_can_be_seen(self, monkeypatch):
        given = [processes.free_domain_id() for _ in range(3)]
        start_s = time.monotonic()
        monkeypatch.setattr(time, 'monotonic', lambda: start_s + processes.LOCK_S + 1.0)
        assert processes.free_domain_id() in given

    def test_domain_in_use_is_not_given(self):
        taken = 91
        port = processes.PORT_BASE + processes.PORT_DOMAIN_GAIN * taken + processes.PORT_UNICAST
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
            participant.bind(('', port))
            assert {processes.free_domain_id() for _ in range(2)} == {90, 92}
