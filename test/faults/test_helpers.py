# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of the tests: injector, watcher and rig."""

from types import SimpleNamespace

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl
from faults.injector import ODOMETRY, STEP, UPSTREAM, relay
from faults.rules import Channel, Rule
from faults.test_loads import expect_flat
from harness.rig import Rig
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
import pytest

pytestmark = pytest.mark.nightly
MESSAGES = [bytes([n]) * 4 for n in range(10)]
messages = st.lists(st.binary(min_size=1, max_size=8), max_size=60)
S = 1_000_000_000  # [ns]
DRIVE, STOP = CarlaEgoVehicleControl(throttle=0.5), CarlaEgoVehicleControl(brake=1.0)


def through(*rules, data=MESSAGES, seed='0'):
    """Return the output of a channel, by due time, for messages 10 ns apart."""
    channel = Channel(rules, seed, lambda message, shift_ns: message + str(shift_ns).encode())
    sent = [due for n, message in enumerate(data) for due in channel.take(message, 10 * n)]
    return [message for _, message in sorted(sent, key=lambda due: due[0])], channel.counts


@pytest.mark.parametrize(
    ('rule', 'numbers'),
    [
        (Rule('drop', skip=2, most=3), [0, 1, 5, 6, 7, 8, 9]),
        (Rule('duplicate', times=3, most=1), [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Rule('delay', delay_s=2.5e-8, most=1), [1, 2, 0, 3, 4, 5, 6, 7, 8, 9]),
        (Rule('reorder'), [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]),
        (Rule('echo', skip=1, most=2), [0, 1, 2, 1, 3, 2, 4, 5, 6, 7, 8, 9]),
        (Rule('freeze', skip=3), [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]),
    ],
    ids=lambda value: getattr(value, 'kind', ''),
)
def test_rule(rule, numbers):
    assert [message[0] for message in through(rule)[0]] == numbers


def test_stamp_is_shifted():
    assert through(Rule('shift', shift_s=-0.001), data=[b'x'])[0] == [b'x-1000000']


@given(messages, st.integers(0, 99), st.floats(0, 1), st.sampled_from(['drop', 'duplicate']))
def test_counts_add_up_and_draws_repeat(data, seed, share, kind):
    rule = Rule(kind, share=share)
    out, counts = through(rule, data=data, seed=seed)
    assert (out, counts) == through(rule, data=data, seed=seed)
    more = counts.get('duplicated', 0) - counts.get('dropped', 0)
    assert len(out) == len(data) + more == counts['sent']
    assert set(out) <= set(data)


def test_relays_both_ways(ros, tmp_path):
    with Rig(tmp_path) as rig:
        rig.domain_id = ros.domain_id
        injector = relay(rig, (ODOMETRY, STEP))
        steps, upstream = ros.talk(CarlaControl, STEP), ros.talk(Odometry, UPSTREAM + ODOMETRY)
        asked = ros.listen(CarlaControl, UPSTREAM + STEP)
        received = ros.listen(Odometry, ODOMETRY)
        ros.spin_until(lambda: steps.get_subscription_count() == 2, 'injector and watcher')
        ros.spin_until(upstream.get_subscription_count, 'the injector')
        ros.spin_until(lambda: ros.peer.count_publishers(ODOMETRY), 'the sink')
        injector.rule(ODOMETRY, Rule('drop', most=1))
        for n in range(3):
            msg = Odometry()
            msg.header.stamp.sec = n
            upstream.publish(msg)
        steps.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        ros.spin_until(lambda: asked and len(received) == 2, 'what was relayed')
        assert [msg.header.stamp.sec for msg in received] == [1, 2]
        assert injector.counts()[ODOMETRY] == {'received': 3, 'sent': 2, 'dropped': 1}
        assert rig.watcher.wait_for(rig.watcher.steps_sent, 5.0) == 1


@pytest.mark.parametrize(
    ('kind', 'last', 'words'),
    [('rss_bytes', 1.02, 'growth of memory'), ('fds', 2.0, 'files'), ('threads', 2.0, 'threads')],
)
def test_growth_over_a_soak_is_reported(kind, last, words):
    series = {name: [100.0] * 30 for name in ('rss_bytes', 'fds', 'threads')}
    expect_flat(SimpleNamespace(figures={}), 'agent', series)
    series[kind][-10:] = [100.0 * last] * 10
    with pytest.raises(AssertionError, match=f'agent: .*{words}'):
        expect_flat(SimpleNamespace(figures={}), 'agent', series)


class TestRig:
    def test_timeout_is_reported(self, rig):
        with pytest.raises(pytest.fail.Exception, match=r'rain: expected within 0\.1 s'):
            rig.wait_for(lambda: False, 'rain', 0.1)
        with pytest.raises(AssertionError, match='stop after: it did not come, not <= 2 s'):
            rig.in_time('stop after', None, 0.5)

    def test_process_that_ends_is_reported(self, rig):
        rig.start_node('td3_agent_node', {'rate_hz': -1.0})
        with pytest.raises(pytest.fail.Exception, match=r'td3_agent_node ended with 2: .*rate_hz'):
            rig.wait_for(lambda: False, 'an agent')

    def test_uncaught_exception_is_found_in_its_log(self, rig):
        command = ['python', '-c', 'raise KeyError(7)']
        rig.start('raising', command, (1,)).process.wait(60.0)
        with pytest.raises(AssertionError, match=r'uncaught exceptions: .*KeyError: 7'):
            rig.p0()
