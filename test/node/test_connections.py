# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Ends of topics that do not match, duplicate publishers, rejected messages."""

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node

from td3_agent.driving.endpoints import SILENCE_NS, Endpoint, LastSeen
from td3_agent.nodes import liveliness, topics, wiring
from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.runtime import LATCHED, RELIABLE, camera_qos
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.nodes.wiring import Rejections, endpoint, expected_endpoint, type_name

ROLE = 'ego_vehicle'
TWIST = topics.twist_stamped(ROLE)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.mark.parametrize('qos', [RELIABLE, LATCHED, camera_qos('best_effort')])
@pytest.mark.parametrize('writes', [False, True])
def test_own_end_is_as_in_the_graph(ros, qos, writes):
    node = ros.peer
    if writes:
        node.create_publisher(Odometry, '/x', qos)
        (info,) = node.get_publishers_info_by_topic('/x')
    else:
        node.create_subscription(Odometry, '/x', print, qos)
        (info,) = node.get_subscriptions_info_by_topic('/x')
    wanted = expected_endpoint(node, Odometry, '/x', qos, writes=writes)
    assert endpoint(info) == wanted.end
    assert wanted.end.type == type_name(Odometry) == 'nav_msgs/msg/Odometry'


def test_missing_ends_are_named_after_a_while_and_no_longer_once_they_are_there(
    ros, diagnosed, monkeypatch
):
    monkeypatch.setattr(wiring, 'GRACE_NS', 0)
    ros.make(GateNode)
    name = 'gate: connections'

    def says(*words):
        status = diagnosed(name)
        return status is not None and all(word in status.message for word in words)

    ros.spin_until(lambda: says('no publisher on', TWIST, 'start td3_agent_node'), 'twist')
    assert diagnosed(name).level == DiagnosticStatus.WARN
    ros.talk(TwistStamped, TWIST)
    ros.spin_until(lambda: says('odometry') and not says(TWIST), 'no longer')


def agent(ros, **parameters):
    return ros.make(Td3AgentNode, driver='pure_pursuit', autostart=False, **parameters)


def test_another_publisher_keeps_a_managed_agent_from_activating_until_it_is_gone(ros):
    other = ros.make(Node, 'joystick')
    other.create_publisher(TwistStamped, TWIST, RELIABLE)
    node = agent(ros)
    assert node.trigger_configure() is SUCCESS
    ros.spin_until(lambda: node.count_publishers(TWIST) == 2, 'both')
    assert node.trigger_activate() is FAILURE
    assert '/joystick publishes' in node.fault
    ros.drop(other)
    ros.spin_until(lambda: node.count_publishers(TWIST) == 1, 'alone')
    assert node.trigger_activate() is SUCCESS
    assert not node.fault


class TestDead:
    """A publisher of our own name in the graph."""

    @pytest.fixture
    def node(self, ros, monkeypatch):
        node = agent(ros)
        own = Endpoint(node='/td3_agent', type='geometry_msgs/msg/TwistStamped')
        monkeypatch.setattr(liveliness, 'ends_of', lambda *_: ([own, own], []))
        node.trigger_configure()
        return node

    def test_it_is_waited_for_until_it_would_have_spoken(self, node, monkeypatch):
        assert node.trigger_activate() is FAILURE
        assert 'try again' in node.fault
        now_ns = liveliness.steady_ns()
        monkeypatch.setattr(liveliness, 'steady_ns', lambda: now_ns + SILENCE_NS)
        assert node.trigger_activate() is SUCCESS

    @pytest.mark.parametrize(('active', 'wanted'), [(True, FAILURE), (False, SUCCESS)])
    def test_a_live_one_keeps_ours_inactive(self, node, monkeypatch, active, wanted):
        now_ns = liveliness.steady_ns() + SILENCE_NS
        monkeypatch.setattr(liveliness, 'steady_ns', lambda: now_ns)
        monkeypatch.setattr(LastSeen, 'is_alive', lambda *_: True)
        monkeypatch.setattr(LastSeen, 'is_at_work', lambda *_: active)
        assert node.trigger_activate() is wanted


class TestRejections:
    @pytest.fixture
    def clock(self, monkeypatch):
        now = [10_000_000_000]
        monkeypatch.setattr(wiring, 'steady_ns', lambda: now[0])
        return now

    def test_flood_is_counted_and_logged_once_a_second_for_each_topic(self, ros, clock, capfd):
        found = Rejections(ros.peer)
        for n in range(1000):
            found.reject('/a', f'reason {n}')
            found.reject('/b', 'another')
        clock[0] += wiring.LOG_PERIOD_NS
        found.reject('/a', 'x' * 10_000)
        lines = [line for line in capfd.readouterr().err.splitlines() if 'rejected' in line]
        assert [line.split('] ')[-1].split(': message')[0][-2:] for line in lines] == [
            '/a',
            '/b',
            '/a',
        ]
        assert '(1 so far): reason 0' in lines[0]
        assert '(1001 so far): xxx' in lines[2]
        assert len(lines[2]) < 500
        assert found.count == 2001
        assert found.status().values == {'/a': 1001, '/b': 1000}

    def test_it_is_reported_for_a_while(self, ros, clock):
        found = Rejections(ros.peer)
        assert not found.status().is_warning
        found.reject('/a', 'x_m must be finite')
        assert found.status().is_warning
        assert '/a: message rejected: x_m must be finite' in found.status().message
        assert 'ros2 topic info -v /a' in found.status().message
        clock[0] += wiring.FRESH_NS + 1
        assert not found.status().is_warning

    def test_only_rejections_are_caught(self, ros, clock):
        del clock
        told = []
        found = Rejections(ros.peer, lambda topic, reason: told.append((topic, str(reason))))
        found.guard('/a', float)('no number')
        assert told == [('/a', "could not convert string to float: 'no number'")]
        with pytest.raises(TypeError):
            found.guard('/a', float)([])
