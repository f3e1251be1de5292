# SPDX-License-Identifier: Apache-2.0
"""Rows in which others are on our topics, settings make no sense, or states are abused."""

from __future__ import annotations

from contextlib import closing
import math
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaEgoVehicleControl
from geometry_msgs.msg import Twist
import gymnasium
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from td3_agent.driving.parameters import ParameterError
from td3_agent.faults.inside import (
    CAMERA,
    ROLE,
    Inside,
    Vehicle,
    is_sound,
    is_stop,
    resources,
)
from td3_agent.faults.row import Outcome, row
from td3_agent.nodes import topics
from td3_agent.nodes.runtime import RELIABLE
from td3_agent.nodes.sim_bridge_node import SimBridgeNode
from td3_agent.nodes.synchronizer_node import SynchronizerNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.nodes.twist_to_control_node import TwistToControlNode

if TYPE_CHECKING:
    from td3_agent.faults.scene import Scene

NAMED_S = 5.0
CALM_S = 4.0  # as long as a look at all topics takes, and the grace before
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
CONNECTIONS = ('td3_agent: connections', 'twist_to_control: connections')
GATE = {'deadline_s': 0.2, 'silence_s': 60.0}
SUCCESS = TransitionCallbackReturn.SUCCESS
MOST_GROWTH_SHARE = 0.02
WARM_UP = 20


@row('F18', 'wrong type or QoS, nobody there, two of a kind')
def connections(scene: Scene) -> Outcome:
    """Named within 5 s with what to do; nothing is named where all fits; one agent drives."""
    del scene
    outcome = Outcome()
    with Inside() as inside:
        vehicle = Vehicle(inside)
        inside.make(Td3AgentNode, driver='pure_pursuit')
        inside.holds_within(lambda: vehicle.names(CONNECTIONS[0]), 1.0)
        inside.make(TwistToControlNode, **GATE)  # joins late
        vehicle.wait_until_driving()
        _silent(inside, vehicle, outcome)
        _intruders(inside, vehicle, outcome)
        _second_agents(inside, vehicle, outcome)
        _silent(inside, vehicle, outcome)
        outcome.none('P0 commands out of range', (m for m in vehicle.commands if not is_sound(m)))
    _deaf_agent(outcome)
    return outcome


def _named(
    inside: Inside, vehicle: Vehicle, outcome: Outcome, what: str, node: str, *words: str
) -> None:
    """Wait until a node names a fault; note how long that took."""
    took_s = inside.holds_within(lambda: vehicle.names(node, *words), NAMED_S)
    outcome.check(f'{what} is named', took_s is not None, vehicle.message(node), ' '.join(words))
    if took_s is not None:
        name = f'{what.replace(" ", "_").replace("/", "")}_named_s'
        outcome.figures[name] = round(took_s, 2)


def _silent(inside: Inside, vehicle: Vehicle, outcome: Outcome) -> None:
    """Nothing is named once all fits."""
    fits = inside.holds_within(
        lambda: not any(vehicle.names(node) for node in CONNECTIONS), NAMED_S
    )
    outcome.check('nothing is named where all fits', fits is not None, fits, '<= 5 s')
    false = inside.holds_within(lambda: any(vehicle.names(node) for node in CONNECTIONS), CALM_S)
    said = [vehicle.message(node) for node in CONNECTIONS]
    outcome.check('nor for a while afterwards', false is None, said, 'nothing')


def _intruders(inside: Inside, vehicle: Vehicle, outcome: Outcome) -> None:
    """Let another program publish or listen where it should not."""
    agent, gate = CONNECTIONS
    for what, kind, topic, qos, node, words in (
        ('a second /clock', Clock, '/clock', RELIABLE, gate, ('/clock', 'intruder')),
        (
            'a second commander',
            CarlaEgoVehicleControl,
            topics.control(ROLE),
            RELIABLE,
            gate,
            ('vehicle_control_cmd', 'intruder', 'end all but one'),
        ),
        (
            'another type',
            Twist,
            topics.odometry(ROLE),
            RELIABLE,
            agent,
            ('geometry_msgs/msg/Twist',),
        ),
        (
            'a best effort camera',
            Image,
            topics.image(ROLE, CAMERA),
            BEST_EFFORT,
            agent,
            ('best effort', 'reliable'),
        ),
    ):
        with Inside(inside.domain_id) as elsewhere:  # one participant has one type for a topic
            elsewhere.make(Node, 'intruder').create_publisher(kind, topic, qos)
            _named(inside, vehicle, outcome, what, node, *words)


def _second_agents(inside: Inside, vehicle: Vehicle, outcome: Outcome) -> None:
    """Start agents beside the one that drives: of another name, and of its own."""
    for name in ('second_agent', 'td3_agent'):
        second = inside.make(Td3AgentNode, node_name=name, driver='pure_pursuit')
        heard = len(vehicle.twists)
        inside.wait_for(lambda s=second: s._rival_fault, 'a decision')  # noqa: SLF001  looks inside
        stamp = vehicle.give()
        vehicle.answered(stamp)
        state = second._state_machine.current_state[1]  # noqa: SLF001  as above
        outcome.equal(f'a second agent named {name} is', state, 'inactive')
        outcome.equal('commands for a frame', len(vehicle.twists) - heard, 1)
        inside.drop(second)


def _deaf_agent(outcome: Outcome) -> None:
    """Nobody publishes what the agent needs: it says what, and what to do."""
    with Inside() as inside:
        vehicle = Vehicle(inside, 'somebody_else')
        inside.make(Td3AgentNode, driver='pure_pursuit')
        for what, words in (
            ('no camera', ('nobody publishes', 'camera/image', 'odometry', 'start the bridge')),
            ('no converter', ('nobody subscribes', 'twist', 'start twist_to_control_node')),
        ):
            _named(inside, vehicle, outcome, what, CONNECTIONS[0], *words)


BAD_PARAMETERS: tuple[tuple[type[Any], dict[str, Any], str], ...] = (
    (Td3AgentNode, {'rate_hz': 0.0}, 'rate_hz'),
    (Td3AgentNode, {'rate_hz': -1.0}, 'rate_hz'),
    (Td3AgentNode, {'rate_hz': 1e9}, 'rate_hz'),
    (Td3AgentNode, {'rate_hz': math.nan}, 'rate_hz'),
    (Td3AgentNode, {'rate_hz': 'fast'}, 'rate_hz'),
    (Td3AgentNode, {'rat_hz': 20.0}, 'rat_hz'),
    (Td3AgentNode, {'mode': 'fly'}, 'mode'),
    (Td3AgentNode, {'autostart': 1}, 'autostart'),
    (TwistToControlNode, {'deadline_s': 0.0}, 'deadline_s'),
    (TwistToControlNode, {'deadline_s': 5.0}, 'deadline_s'),
    (TwistToControlNode, {'max_speed_mps': math.inf}, 'max_speed_mps'),
    (TwistToControlNode, {'role_name': [1, 2]}, 'role_name'),
    (SynchronizerNode, {'real_time_factor': -1.0}, 'real_time_factor'),
    (SynchronizerNode, {'role_names': ['a', 'a']}, 'role_names'),
    (SynchronizerNode, {'fixed_delta_seconds': 0.0}, 'fixed_delta_seconds'),
    (SimBridgeNode, {'camera_width': 10**9}, 'camera_width'),
    (SimBridgeNode, {'fixed_delta_seconds': 1e9}, 'fixed_delta_seconds'),
    (SimBridgeNode, {'camera_rate_hz': 7.0}, 'camera_rate_hz'),
)


@row('F20', 'parameters that make no sense, or change while driving')
def parameters(scene: Scene) -> Outcome:
    """Refused by name at the start; a change of a running node is refused, and changes nothing."""
    del scene
    outcome = Outcome()
    with Inside() as inside:
        for kind, values, name in BAD_PARAMETERS:
            try:
                inside.make(kind, **values)
            except ParameterError as error:
                told = str(error)
            else:
                told = 'it was taken'
            outcome.check(f'{kind.__name__} {values}', name in told, told[:200], name)
    with Inside() as inside:
        vehicle = Vehicle(inside)
        gate = inside.make(TwistToControlNode, **GATE)
        agent = inside.make(Td3AgentNode, driver='pure_pursuit')
        vehicle.wait_until_driving()
        changes = 0
        for node in (agent, gate):
            for name in node._parameters.copy():  # noqa: SLF001  rclpy lists only those it likes
                if name == 'use_sim_time' or '.' in name or name.startswith('start_type'):
                    continue
                before = node.get_parameter(name)
                for value in (_other(before), Parameter(name, value='absurd')):
                    result = node.set_parameters([value])[0]
                    changes += 1
                    outcome.check(
                        f'{node.get_name()}.{name} to {value.value!r}',
                        not result.successful and result.reason,
                        result.reason or 'taken',
                        'refused with a reason',
                    )
                outcome.equal(f'{name} afterwards', node.get_parameter(name).value, before.value)
        stops = [msg for msg in vehicle.drive(5) if is_stop(msg)]
        outcome.equal('stops in five frames afterwards', len(stops), 0)
    outcome.figures |= {'refused_at_start': len(BAD_PARAMETERS), 'refused_live': changes}
    return outcome


def _other(parameter: Parameter) -> Parameter:
    """Return a parameter of the same type with another value."""
    value = parameter.value
    other = (
        (not value)
        if isinstance(value, bool)
        else f'{value}x'
        if isinstance(value, str)
        else value * 2 + 1
    )
    return Parameter(parameter.name, value=other)


@row('F21', 'lifecycle: transitions that are not legal, and 1000 cycles')
def lifecycle(scene: Scene) -> Outcome:
    """Only legal states, a stop at the end of every drive, and nothing left behind."""
    outcome = Outcome()
    cycles = scene.count or (60 if scene.quick else 1000)
    with Inside() as inside:
        vehicle = Vehicle(inside)
        inside.make(TwistToControlNode, **GATE)
        agent = inside.make(Td3AgentNode, driver='pure_pursuit')
        vehicle.wait_until_driving()
        _illegal(inside, agent, outcome)
        _mid_step(inside, vehicle, agent, outcome)
        before: dict[str, float] = {}
        for cycle in range(cycles):
            if cycle == WARM_UP:
                before = resources() | _entities(agent)
            done = [getattr(agent, f'trigger_{name}')() for name in CYCLE]
            if done != [SUCCESS] * len(CYCLE):
                outcome.check(f'cycle {cycle}', passed=False, found=done, wanted='all legal')
                break
            inside.executor.spin_once(timeout_sec=0.0)
        after = resources() | _entities(agent)
        _flat(outcome, before, after)
        vehicle.wait_until_driving()
        outcome.figures |= {'cycles': cycles}
    return outcome


CYCLE = ('deactivate', 'cleanup', 'configure', 'activate')


def _illegal(inside: Inside, agent: Any, outcome: Outcome) -> None:  # noqa: ANN401  a node
    """Ask over the service for what is not legal; the node answers no and lives."""
    from lifecycle_msgs.msg import Transition  # noqa: PLC0415  this row alone
    from lifecycle_msgs.srv import ChangeState  # noqa: PLC0415  as above

    client = inside.peer.create_client(ChangeState, '/td3_agent/change_state')
    inside.wait_for(client.service_is_ready, 'the service')
    for name, number in (
        ('activate', Transition.TRANSITION_ACTIVATE),
        ('configure', Transition.TRANSITION_CONFIGURE),
        ('cleanup', Transition.TRANSITION_CLEANUP),
        ('an unknown one', 77),
    ):
        future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        inside.wait_for(future.done, f'an answer to {name}')
        outcome.equal(f'{name} while active succeeds', future.result().success, wanted=False)
        state = agent._state_machine.current_state[1]  # noqa: SLF001  rclpy has no name for it
        outcome.equal(f'state after {name}', state, 'active')
    inside.peer.destroy_client(client)


def _mid_step(inside: Inside, vehicle: Vehicle, agent: Any, outcome: Outcome) -> None:  # noqa: ANN401
    """Deactivate within a frame, and clean up while halves of frames still come."""
    vehicle.drive(2)
    heard = len(vehicle.twists)
    stamp = vehicle.give()
    agent.trigger_deactivate()
    inside.wait_for(lambda: len(vehicle.twists) > heard, 'the last word')
    outcome.equal('the last word', vehicle.twists[-1].twist, Twist())
    outcome.check('the frame', is_stop(vehicle.answered(stamp)), 'driven', 'full brake')
    vehicle.give()
    agent.trigger_cleanup()
    inside.holds_within(lambda: False, 0.2)  # what was on its way comes, and harms nobody
    outcome.equal('configured again', agent.trigger_configure(), SUCCESS)
    outcome.equal('activated again', agent.trigger_activate(), SUCCESS)
    vehicle.wait_until_driving()


def _entities(*nodes: Any) -> dict[str, float]:  # noqa: ANN401  nodes
    """Return how many ends, timers and services some nodes have."""
    return {
        name: sum(len(list(getattr(node, name))) for node in nodes)
        for name in ('subscriptions', 'timers', 'services')
    }


def _flat(outcome: Outcome, before: dict[str, float], after: dict[str, float]) -> None:
    """Note that nothing has grown but memory, and that by little."""
    for name in ('fds', 'threads', 'subscriptions', 'timers', 'services'):
        outcome.most(f'{name} afterwards', after[name], before[name])
    growth = after['rss_mb'] / before['rss_mb'] - 1.0
    outcome.most('memory grown', growth, MOST_GROWTH_SHARE, 'of all')
    outcome.figures |= {
        'memory_grown_mb': round(after['rss_mb'] - before['rss_mb'], 2),
        'fds': int(after['fds']),
        'threads': int(after['threads']),
    }


@row('L5', '1000 episode resets')
def resets(scene: Scene) -> Outcome:
    """Time begins anew a thousand times: nothing is left behind, every frame is answered."""
    outcome = Outcome()
    count = scene.count or (60 if scene.quick else 1000)
    with Inside() as inside:
        vehicle = Vehicle(inside)
        gate = inside.make(TwistToControlNode, **GATE | {'deadline_s': 0.9})
        agent = inside.make(Td3AgentNode, driver='pure_pursuit')
        vehicle.wait_until_driving()
        before, stops = {}, 0
        for number in range(count):
            if number == WARM_UP:
                before = resources() | _entities(agent, gate)
            vehicle.frame = 100 - vehicle.frame % 2  # far ahead of where the episode begins
            vehicle.answered(vehicle.give())
            vehicle.frame = 0
            vehicle.commands.clear()
            vehicle.twists.clear()
            stops += sum(is_stop(msg) for msg in vehicle.drive(2))
            vehicle.reports.clear()
        _flat(outcome, before, resources() | _entities(agent, gate))
        found = agent.answerer.counts.resets
        outcome.equal('resets of the agent', found, count)
        outcome.equal('resets of the gate', gate.gate.counts.resets, count)
        outcome.equal('frames that were braked', stops, 0)
    _episodes(outcome, count)
    outcome.figures |= {'resets': count}
    return outcome


def _episodes(outcome: Outcome, count: int) -> None:
    """Reset the Gymnasium environment as often: no file or thread is left open."""
    with closing(gymnasium.make('td3_agent.sim.env:td3_agent/Driving-v0')) as env:
        for number in range(count):
            if number == WARM_UP:
                before = resources()
            env.reset(seed=number)
            env.step(env.action_space.sample())
        after = resources()
    for name in ('fds', 'threads'):
        outcome.most(f'{name} after resets of the environment', after[name], before[name])
    outcome.figures |= {'env_memory_grown_mb': round(after['rss_mb'] - before['rss_mb'], 2)}
