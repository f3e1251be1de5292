# SPDX-License-Identifier: Apache-2.0
"""What the watcher makes of what it has heard, and that it hears."""

import math
import time

from builtin_interfaces.msg import Time
from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl, CarlaStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import pytest
from rosgraph_msgs.msg import Clock

from td3_agent.faults.watcher import Heard, Watcher
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import report_message

ROLE = 'ego_vehicle'
S = 1_000_000_000  # [ns]
DRIVE = CarlaEgoVehicleControl(throttle=0.5)
STOP = CarlaEgoVehicleControl(brake=1.0)


@pytest.fixture
def watcher():
    """A watcher that hears nothing: a test tells it what it has heard."""
    deaf = Watcher.__new__(Watcher)
    for name in ('commands', 'steps', 'statuses', 'clocks', 'reports', 'diagnostics'):
        setattr(deaf, name, [])
    return deaf


def at(*times_s, what=None):
    return [Heard(round(time_s * S), what) for time_s in times_s]


def said(time_s, message, level=DiagnosticStatus.ERROR, name='gate', **values):
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    status = DiagnosticStatus(level=level, name=name, message=message, values=pairs)
    return Heard(round(time_s * S), status)


def reported(time_s, outcome):
    return at(time_s, what=report_message(Time(), 'gate', {'outcome': outcome}))


class TestStops:
    def test_delay_of_the_first_stop_after(self, watcher):
        watcher.commands = [*at(1.0, what=STOP), *at(2.0, 3.0, what=DRIVE), *at(3.5, what=STOP)]
        assert watcher.stop_delay_s(round(2.9 * S)) == pytest.approx(0.6)

    def test_no_stop(self, watcher):
        watcher.commands = at(1.0, 2.0, what=DRIVE)
        assert watcher.stop_delay_s(0) is None

    def test_stopped_already(self, watcher):
        watcher.commands = [*at(1.0, what=DRIVE), *at(2.0, what=STOP)]
        assert watcher.stop_delay_s(3 * S) == 0.0


class TestNames:
    def test_all_words_of_the_right_node_in_time(self, watcher):
        watcher.diagnostics = [
            said(1.0, 'No image for frame 3'),
            said(2.0, 'all is well', DiagnosticStatus.OK),
            said(3.0, 'no image for frame 5', name='agent'),
        ]
        assert watcher.named(0, 'gate', 'no image').at_ns == S
        assert watcher.named(0, '', 'NO IMAGE', 'frame 5').at_ns == 3 * S
        assert watcher.named(2 * S, 'gate', 'image') is None
        assert watcher.named(0, '', 'all is well') is None

    def test_errors_are_errors_only(self, watcher):
        watcher.diagnostics = [
            said(1.0, 'a', DiagnosticStatus.WARN),
            said(2.0, 'b'),
            said(3.0, 'c'),
        ]
        assert [h.what.message for h in watcher.errors(0, 3 * S)] == ['b']

    def test_value_is_the_newest_that_was_told(self, watcher):
        watcher.diagnostics = [said(1.0, '', stale='1'), said(2.0, '', stale='2'), said(3.0, '')]
        assert watcher.value('gate', 'stale') == '2'
        assert watcher.value('gate', 'other') is None


class TestSilence:
    def test_longest_of_all_that_was_said(self, watcher):
        watcher.commands, watcher.clocks = at(1.0, 2.0), at(1.5, 6.0)
        assert watcher.longest_silence_s(S, 7 * S) == pytest.approx(4.0)

    def test_a_reason_counts_and_wellness_does_not(self, watcher):
        watcher.diagnostics = [said(2.0, 'paused', DiagnosticStatus.WARN)]
        watcher.diagnostics += [said(3.0, 'well', DiagnosticStatus.OK)]
        assert watcher.longest_silence_s(S, 5 * S) == pytest.approx(3.0)


class TestGoodFrames:
    def test_longest_time_without(self, watcher):
        outcomes = [(1.0, 'ok'), (2.5, 'ok'), (3.0, 'stopped_silence'), (4.5, 'ok')]
        watcher.reports = [heard for time_s, word in outcomes for heard in reported(time_s, word)]
        assert watcher.longest_without_good_s(0, 5 * S) == pytest.approx(2.0)
        assert watcher.longest_without_good_s(round(4.6 * S), 9 * S) == pytest.approx(4.4)


@pytest.mark.parametrize(
    ('command', 'faults'),
    [
        (CarlaEgoVehicleControl(throttle=1.0, steer=-1.0), 0),
        (CarlaEgoVehicleControl(throttle=math.nan), 2),
        (CarlaEgoVehicleControl(steer=-1.5), 1),
        (CarlaEgoVehicleControl(brake=math.inf), 2),
    ],
)
def test_bad_commands(watcher, command, faults):
    watcher.commands = at(1.0, what=command)
    assert len(watcher.bad_commands()) == faults


def test_frames_without_repeats(watcher):
    watcher.statuses = [at(0, what=CarlaStatus(frame=n))[0] for n in (1, 1, 2, 2, 2, 3, 0, 1)]
    assert watcher.frames() == [1, 2, 3, 0, 1]


def test_it_hears(ros):
    with Watcher(ros.domain_id) as watcher:
        talkers = {
            'commands': (ros.talk(CarlaEgoVehicleControl, topics.control(ROLE)), DRIVE),
            'steps': (ros.talk(CarlaControl, topics.CONTROL), CarlaControl(command=2)),
            'statuses': (ros.talk(CarlaStatus, topics.STATUS), CarlaStatus(frame=4)),
            'clocks': (ros.talk(Clock, '/clock'), Clock()),
            'diagnostics': (
                ros.talk(DiagnosticArray, '/diagnostics'),
                DiagnosticArray(status=[DiagnosticStatus(name='a'), DiagnosticStatus(name='b')]),
            ),
        }
        for publisher, _ in talkers.values():
            ros.spin_until(publisher.get_subscription_count, 'the watcher')
        before_ns = time.monotonic_ns()
        for publisher, msg in talkers.values():
            publisher.publish(msg)
        assert watcher.wait_for(
            lambda: all(getattr(watcher, name) for name in talkers), 20.0, lambda: None
        )
        assert watcher.commands[0].what == DRIVE
        assert before_ns <= watcher.commands[0].at_ns <= time.monotonic_ns()
        assert watcher.steps_sent() == 1
        watcher.wait_for(lambda: len(watcher.diagnostics) == 2, 20.0, lambda: None)
        assert [heard.what.name for heard in watcher.diagnostics] == ['a', 'b']
