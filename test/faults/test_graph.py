# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases in which others use our topics, settings make no sense, or states are abused."""

from contextlib import closing
import math

from carla_msgs.msg import CarlaEgoVehicleControl
from faults.by_hand import BridgeByHand
from geometry_msgs.msg import Twist
import gymnasium
from harness.messages import CAMERA, ROLE
from harness.programs import resources
from harness.ros import Ros, lifecycle_state
from harness.watcher import is_stop
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from td3_agent.driving.parameters import ParameterError
from td3_agent.nodes import topics
from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.runtime import RELIABLE
from td3_agent.nodes.sim_bridge_node import SimBridgeNode
from td3_agent.nodes.synchronizer_node import SynchronizerNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode

NAMED_S = 5.0
CALM_S = 4.0  # as long as a look at all topics takes, and the grace before
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
AT_AGENT, AT_GATE = CONNECTIONS = ('td3_agent: connections', 'gate: connections')
GATE = {'deadline_s': 0.2, 'silence_s': 60.0}
SUCCESS = TransitionCallbackReturn.SUCCESS
CYCLE = ('deactivate', 'cleanup', 'configure', 'activate')
MOST_GROWTH = 1.02  # of memory
WARM_UP = 20
INTRUDERS = {  # another program that publishes: what, where, and what is said of it
    'second /clock': (Clock, '/clock', RELIABLE, AT_GATE, ('/clock', 'intruder')),
    'second commander': (
        CarlaEgoVehicleControl,
        topics.control(ROLE),
        RELIABLE,
        AT_GATE,
        ('vehicle_control_cmd', 'intruder', 'end all but one'),
    ),
    'another type': (
        Twist,
        topics.odometry(ROLE),
        RELIABLE,
        AT_AGENT,
        ('geometry_msgs/msg/Twist',),
    ),
    'best effort camera': (
        Image,
        topics.image(ROLE, CAMERA),
        BEST_EFFORT,
        AT_AGENT,
        ('best effort', 'reliable'),
    ),
}


def driving(ros, **gate):
    """Return a bridge that is moved by hand, an agent and a gate, under way."""
    bridge = BridgeByHand(ros)
    agent = ros.make(Td3AgentNode, driver='pure_pursuit')
    ros.within(lambda: bridge.status.faulty(AT_AGENT), 1.0)
    gate = ros.make(GateNode, **GATE | gate)  # joins late
    bridge.wait_until_driving()
    return bridge, agent, gate


def expect_named(rig, bridge, what, node, words):
    """Expect that a node names a fault in time."""
    took_s = bridge.ros.within(lambda: bridge.status.faulty(node, *words), NAMED_S)
    assert took_s is not None, f'{what} is named: {words}, not {bridge.status.message(node)!r}'
    rig.figures[f'{what} named_s'] = round(took_s, 2)


def expect_nothing_named(bridge):
    """Expect that nothing is named once all fits, nor for a while afterwards."""

    def named():
        return [bridge.status.message(node) for node in CONNECTIONS if bridge.status.faulty(node)]

    assert bridge.ros.within(lambda: not named(), NAMED_S) is not None, f'all fits: {named()}'
    assert bridge.ros.within(named, CALM_S) is None, f'all fits: {named()}'


@pytest.mark.case('F18', 'wrong type or QoS, two of a kind')
def test_intruders(rig):
    """Named within 5 s with what to do; nothing is named where all fits; one agent drives."""
    ros = rig.nodes()
    bridge, *_ = driving(ros)
    expect_nothing_named(bridge)
    for what, (kind, topic, qos, node, words) in INTRUDERS.items():
        with Ros(ros.domain_id) as elsewhere:  # one participant has one type for a topic
            elsewhere.make(Node, 'intruder').create_publisher(kind, topic, qos)
            expect_named(rig, bridge, what, node, words)
    for name in ('second_agent', 'td3_agent'):
        second = ros.make(Td3AgentNode, node_name=name, driver='pure_pursuit')
        sent = len(bridge.twists)
        ros.spin_until(lambda s=second: 'publishes' in s.fault, f'{name} decides')
        bridge.answered(bridge.give())
        assert lifecycle_state(second) == 'inactive', name
        assert len(bridge.twists) - sent == 1, 'commands for a frame'
        ros.drop(second)
    expect_nothing_named(bridge)
    bridge.expect_sound()


@pytest.mark.case('F18', 'an agent without bridge and gate')
def test_agent_alone(rig):
    """Diagnostics name what is missing, with the remedy."""
    ros = rig.nodes()
    bridge = BridgeByHand(ros, 'another_role')
    ros.make(Td3AgentNode, driver='pure_pursuit')
    for what, words in (
        ('no camera', ('no publisher on', 'camera/image', 'odometry', 'start the bridge')),
        ('no gate', ('no subscriber on', 'twist', 'start gate_node')),
    ):
        expect_named(rig, bridge, what, AT_AGENT, words)


BAD_PARAMETERS = (
    (Td3AgentNode, {'rate_hz': math.nan}, 'rate_hz'),
    (Td3AgentNode, {'rate_hz': 'fast'}, 'rate_hz'),
    (Td3AgentNode, {'rat_hz': 20.0}, 'rat_hz'),
    (GateNode, {'deadline_s': 5.0}, 'deadline_s'),
    (SynchronizerNode, {'role_names': ['a', 'a']}, 'role_names'),
    (SimBridgeNode, {'camera_rate_hz': 7.0}, 'camera_rate_hz'),
)


@pytest.mark.case('F20', 'parameters that make no sense')
def test_parameters_rejected(rig):
    ros = rig.nodes()
    for kind, values, name in BAD_PARAMETERS:
        with pytest.raises(ParameterError, match=name):
            ros.make(kind, **values)
    rig.figures['rejected'] = len(BAD_PARAMETERS)


@pytest.mark.case('F20', 'parameters that change while driving')
def test_parameters_changed(rig):
    """A running node rejects the change and keeps its parameter."""
    bridge, *nodes = driving(rig.nodes())
    changes = 0
    for node in nodes:
        for name in node.get_parameters_by_prefix(''):
            if name == 'use_sim_time' or '.' in name or name.startswith('start_type'):
                continue
            before = node.get_parameter(name)
            for value in (another(before.value), 'absurd'):
                result = node.set_parameters([Parameter(name, value=value)])[0]
                assert not result.successful, f'{name} to {value!r}'
                assert result.reason, f'{name} to {value!r}'
                changes += 1
            assert node.get_parameter(name).value == before.value
    assert not any(map(is_stop, bridge.drive(5))), 'five frames afterwards'
    rig.figures['rejected'] = changes


def another(value):
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    return f'{value}x' if isinstance(value, str) else value * 2 + 1


@pytest.mark.case('F21', 'lifecycle: deactivated within a frame, and 1000 cycles')
def test_lifecycle(rig):
    """A stop at the end of the drive, and nothing left behind."""
    ros = rig.nodes()
    bridge, agent, _ = driving(ros)
    expect_stop_when_deactivated(bridge, agent)
    cycles = rig.count or (60 if rig.quick else 1000)
    for cycle in range(cycles):
        if cycle == WARM_UP:
            before = resources() | entities(agent)
        done = [getattr(agent, f'trigger_{name}')() for name in CYCLE]
        assert done == [SUCCESS] * len(CYCLE), f'cycle {cycle}'
        ros.executor.spin_once(timeout_sec=0.0)
    expect_flat(rig, before, resources() | entities(agent))
    bridge.wait_until_driving()
    rig.figures['cycles'] = cycles


def expect_stop_when_deactivated(bridge, agent):
    """Deactivate within a frame, and clean up while messages still arrive."""
    bridge.drive(2)
    sent = len(bridge.twists)
    at_ns = bridge.give()
    agent.trigger_deactivate()
    bridge.ros.spin_until(lambda: len(bridge.twists) > sent, 'the last command')
    assert bridge.twists[-1].twist == Twist(), 'the last command'
    assert is_stop(bridge.answered(at_ns))
    bridge.give()
    agent.trigger_cleanup()
    bridge.ros.within(lambda: False, 0.2)  # late messages arrive and are ignored
    assert agent.trigger_configure() == SUCCESS
    assert agent.trigger_activate() == SUCCESS
    bridge.wait_until_driving()


def entities(*nodes):
    """Return how many subscriptions, timers and services some nodes have."""
    kinds = ('subscriptions', 'timers', 'services')
    return {kind: sum(len(list(getattr(node, kind))) for node in nodes) for kind in kinds}


def expect_flat(rig, before, after):
    """Expect growth of memory alone, within its limit."""
    for name in set(after) - {'rss_mb'}:
        assert after[name] <= before[name], f'{name} afterwards'
    assert after['rss_mb'] / before['rss_mb'] <= MOST_GROWTH, 'memory grown'
    grown_mb = round(after['rss_mb'] - before['rss_mb'], 2)
    rig.figures |= {'memory_grown_mb': grown_mb, 'fds': after['fds'], 'threads': after['threads']}


@pytest.mark.case('L5', '1000 episode resets of the nodes')
def test_time_starts_over(rig):
    """Nothing is left behind, every frame is answered."""
    count = rig.count or (60 if rig.quick else 1000)
    bridge, agent, gate = driving(rig.nodes(), deadline_s=0.9)
    for number in range(count):
        if number == WARM_UP:
            before = resources() | entities(agent, gate)
        bridge.frame = 100 - bridge.frame % 2  # far ahead of where the episode begins
        bridge.answered(bridge.give())
        bridge.frame = 0
        bridge.commands.clear()
        assert not any(map(is_stop, bridge.drive(2))), f'frames after reset {number}'
        bridge.twists.clear()
        bridge.reports.clear()
    expect_flat(rig, before, resources() | entities(agent, gate))
    assert agent.responder.counts.resets == gate.gate.counts.resets == count
    rig.figures['resets'] = count


@pytest.mark.case('L5', '1000 episode resets of the environment')
def test_environment_resets(rig):
    """No file or thread is left open."""
    count = rig.count or (60 if rig.quick else 1000)
    with closing(gymnasium.make('td3_agent.sim.env:td3_agent/Driving-v0')) as env:
        for number in range(count):
            if number == WARM_UP:
                before = resources()
            env.reset(seed=number)
            env.step(env.action_space.sample())
        after = resources()
    for name in ('fds', 'threads'):
        assert after[name] <= before[name], f'{name} afterwards'
    rig.figures['memory_grown_mb'] = round(after['rss_mb'] - before['rss_mb'], 2)
