# SPDX-License-Identifier: Apache-2.0
"""A request to end is never lost, wherever in the program it comes up."""

import signal
import sys

import pytest

from td3_agent.evaluation.processes import INTERRUPTIONS, interruptions_noted


class Interrupted:
    """Is interrupted in its destructor, where Python drops every exception."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize('number', INTERRUPTIONS)
def test_interruption_in_a_destructor_is_not_lost(number):
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
