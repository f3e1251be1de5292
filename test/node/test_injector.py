# SPDX-License-Identifier: Apache-2.0
"""The injector process: what goes through it, and what its rules do to real messages."""

import math

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleInfo
from nav_msgs.msg import Odometry
import pytest

from td3_agent.evaluation.processes import ros_environment
from td3_agent.faults.injector import (
    ODOMETRY,
    STEP,
    UPSTREAM,
    VEHICLE_INFO,
    Injector,
    relay,
    remappings,
)
from td3_agent.nodes.runtime import LATCHED


@pytest.fixture
def injector(ros):
    names = (ODOMETRY, STEP, VEHICLE_INFO)
    with Injector(names, 7, ros_environment(ros.domain_id)) as running:
        yield running


@pytest.fixture
def odometry(ros, injector):
    """Return a function that sends odometry upstream, and the list of what comes out."""
    assert injector.counts()
    upstream = ros.talk(Odometry, UPSTREAM + ODOMETRY)
    heard = ros.listen(Odometry, ODOMETRY)
    ros.spin_until(lambda: ros.peer.count_publishers(ODOMETRY), 'the sink')
    ros.spin_until(upstream.get_subscription_count, 'the source')
    (reader,) = [s for s in ros.peer.subscriptions if s.topic_name == ODOMETRY]
    ros.spin_until(lambda: ros.publisher_count(reader), 'matched')

    def send(n):
        msg = Odometry()
        msg.header.stamp.sec = n
        msg.header.stamp.nanosec = 5
        upstream.publish(msg)

    return send, heard


def test_without_rules_messages_are_what_they_were(ros, injector, odometry):
    send, heard = odometry
    for n in range(8):
        send(n)
    ros.spin_until(lambda: len(heard) == 8, 'all')
    assert [msg.header.stamp.sec for msg in heard] == list(range(8))
    assert injector.counts()[ODOMETRY] == {'heard': 8, 'sent': 8}


def test_rules_can_be_changed_while_it_runs(ros, injector, odometry):
    send, heard = odometry
    injector.rule(ODOMETRY, {'kind': 'drop'})
    send(1)
    ros.spin_until(lambda: injector.counts()[ODOMETRY]['heard'] == 1, 'the lost one')
    assert injector.rule(ODOMETRY)[ODOMETRY] == {'heard': 1, 'sent': 0, 'dropped': 1}
    send(2)
    ros.spin_until(lambda: heard, 'the next one')
    assert heard[0].header.stamp.sec == 2


def test_fields_are_set_and_stamps_shifted(ros, injector, odometry):
    send, heard = odometry
    injector.rule(
        ODOMETRY,
        {'kind': 'set', 'values': {'pose.pose.position.x': math.nan, 'header.frame_id': ''}},
        {'kind': 'shift', 'shift_s': -0.5, 'values': {'stamp': 'header.stamp'}},
    )
    send(3)
    ros.spin_until(lambda: heard, 'the message')
    assert math.isnan(heard[0].pose.pose.position.x)
    assert (heard[0].header.stamp.sec, heard[0].header.stamp.nanosec) == (2, 500_000_005)


def test_late_ones_come_late_and_in_their_order(ros, injector, odometry):
    send, heard = odometry
    injector.rule(ODOMETRY, {'kind': 'delay', 'delay_s': 0.2, 'most': 2})
    for n in range(4):
        send(n)
    ros.spin_until(lambda: len(heard) == 4, 'all')
    assert [msg.header.stamp.sec for msg in heard] == [2, 3, 0, 1]


def test_latched_messages_wait_for_who_comes_late(ros, injector):
    upstream = ros.talk(CarlaEgoVehicleInfo, UPSTREAM + VEHICLE_INFO, LATCHED)
    upstream.publish(CarlaEgoVehicleInfo(rolename='ego'))
    ros.spin_until(lambda: ros.peer.count_publishers(VEHICLE_INFO), 'the sink')
    heard = ros.listen(CarlaEgoVehicleInfo, VEHICLE_INFO, LATCHED)
    ros.spin_until(lambda: heard, 'the latched message')
    assert heard[0].rolename == 'ego'
    assert injector.counts()[VEHICLE_INFO]['heard'] == 1


def test_commands_go_the_other_way_once_the_bridge_is_there(ros, injector):
    steps = ros.talk(CarlaControl, STEP)
    assert steps.get_subscription_count() == 0
    heard = ros.listen(CarlaControl, UPSTREAM + STEP)
    ros.spin_until(steps.get_subscription_count, 'the source')
    steps.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
    ros.spin_until(lambda: heard, 'the step')
    assert heard[0].command == CarlaControl.STEP_ONCE
    assert injector.counts()[STEP]['sent'] == 1


@pytest.mark.parametrize(
    ('rules', 'text'),
    [
        ({ODOMETRY: [{'kind': 'burn'}]}, 'kind must be one of'),
        ({'/nothing': []}, '/nothing'),
    ],
)
def test_bad_rules_are_refused_and_it_lives_on(injector, rules, text):
    with pytest.raises(ValueError, match=text):
        injector.rules(rules)
    assert injector.counts()


def test_unknown_topic_is_named():
    with pytest.raises(ValueError, match=r'topic must be one of .*; got /tf'):
        relay('/tf')


def test_the_bridge_is_moved_upstream():
    assert remappings(['/clock']) == ['-r', '/clock:=/upstream/clock']
