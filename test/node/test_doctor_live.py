# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Faults planted in a real graph: the doctor sees them from outside."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
import json
import os
import subprocess
import sys

from carla_msgs.msg import CarlaEgoVehicleControl
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry, Path
import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float32, Header, String

from td3_agent.doctor import gather
from td3_agent.doctor.facts import DEFAULT_RMW, Level, judged
from td3_agent.doctor.gather_graph import gather_graph
from td3_agent.doctor.graph_checks import GRAPH_CHECKS
from td3_agent.fastdds import PROFILE_VARIABLES, profile_variables, read_profile
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import time_from_ns
from td3_agent.nodes.runtime import RELIABLE, own_context
from td3_agent.ros_domain import read_domain_id

ROLE, CAMERA = 'ego_vehicle', 'camera'
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SHORT_S, LONG_S = 1.0, 10.0


@pytest.fixture
def examine(ros):
    """Return a function that gives the findings of the test's own graph that are not fine."""

    def look(seconds):
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(
                gather_graph,
                seconds,
                role_name=ROLE,
                camera_id=CAMERA,
                message_hashes={},
                domain_id=ros.domain_id,
            )
            ros.spin_until(done.done, 'the doctor')
        return done.result()

    def wait_for(check):
        """Look longer if the machine is too busy for discovery in a second."""
        for seconds in (SHORT_S, LONG_S):
            found = [f for f in judged(GRAPH_CHECKS, look(seconds)) if f.check == check]
            if any(f.level > Level.OK for f in found):
                break
        return found

    wait_for.look = look
    return wait_for


def nodes(ros, *names):
    return [ros.make(partial(Node, name)) for name in names]


def test_two_clocks(ros, examine):
    for node in nodes(ros, 'bridge', 'player'):
        node.create_publisher(Clock, '/clock', RELIABLE)
    (finding,) = examine('clock')
    assert finding.level is Level.ERROR
    assert finding.text == '/clock is published by /bridge and /player: time jumps back and forth'


def test_two_writers_of_the_command(ros, examine):
    for node in nodes(ros, 'gate', 'manual_control'):
        node.create_publisher(CarlaEgoVehicleControl, topics.control(ROLE), RELIABLE)
    assert '/gate and /manual_control' in examine('publishers')[0].text
    assert 'has no subscription' in examine('endpoints')[0].text


@pytest.mark.parametrize(
    ('offered', 'asked', 'words'),
    [
        (qos_profile_sensor_data, RELIABLE, 'offers best effort'),
        (RELIABLE, LATCHED, 'offers volatile'),
    ],
)
def test_ends_that_never_meet(ros, examine, offered, asked, words):
    writer, reader = nodes(ros, 'bridge', 'agent')
    writer.create_publisher(Image, topics.image(ROLE, CAMERA), offered)
    reader.create_subscription(Image, topics.image(ROLE, CAMERA), print, asked)
    (finding,) = examine('qos')
    assert finding.level is Level.ERROR
    assert words in finding.text


@pytest.fixture
def stranger(ros):
    """A node of another process, as far as the middleware can tell: Fast DDS rejects one process
    that gives a topic two types."""
    context = own_context(ros.domain_id)
    node = rclpy.create_node('stranger', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_one_topic_two_types(ros, examine, stranger):
    (writer,) = nodes(ros, 'bridge')
    writer.create_publisher(Float32, '/carla/speedometer', RELIABLE)
    stranger.create_subscription(String, '/carla/speedometer', print, RELIABLE)
    (finding,) = examine('types')
    assert (
        finding.text
        == '/carla/speedometer has the types std_msgs/msg/Float32 and std_msgs/msg/String'
    )


def test_one_name_twice(ros, examine):
    nodes(ros, 'td3_agent', 'td3_agent')
    assert 'several nodes are called /td3_agent' in examine('nodes')[0].text


def test_healthy_graph_is_seen_and_silent(ros, examine):
    writer, reader = nodes(ros, 'bridge', 'agent')
    writer.create_publisher(Clock, '/clock', RELIABLE)
    writer.create_publisher(Bool, '/carla/latched', LATCHED)
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    reader.create_subscription(Clock, '/clock', print, best_effort)
    reader.create_subscription(Bool, '/carla/latched', print, LATCHED)

    def seen():
        graph = examine.look(SHORT_S)
        topic = graph.topics.get('/clock')
        return graph if topic and topic.publishers and topic.subscriptions else None

    graph = next(filter(None, (seen() for _ in range(5))))
    assert set(graph.nodes) == {'/bridge', '/agent'}
    assert [f.line() for f in judged(GRAPH_CHECKS, graph) if f.level > Level.OK] == []
    kinds = {end.kind for topic in graph.topics.values() for end in topic.publishers}
    assert 'rosgraph_msgs/msg/Clock' in kinds


def test_our_participant_is_seen_in_its_domain(ros):
    nodes(ros, 'anybody')
    found = gather.participants(gather.udp_table())
    assert any(p.domain_id == ros.domain_id for p in found)


def test_command_by_hand_is_a_writer_but_no_node(ros, examine):
    gate, by_hand = nodes(ros, 'gate', '_ros2cli_42')
    for node in (gate, by_hand):
        node.create_publisher(CarlaEgoVehicleControl, topics.control(ROLE), RELIABLE)
    assert '/_ros2cli_42 and /gate' in examine('publishers')[0].text
    assert examine.look(SHORT_S).nodes == ('/gate',)


def test_gate_that_waits_for_an_agent(ros, examine):
    (gate,) = nodes(ros, 'gate')
    gate.create_subscription(TwistStamped, topics.twist_stamped(ROLE), print, RELIABLE)
    (finding,) = examine('endpoints')
    assert finding.text.startswith('no agent: /gate waits for')


def test_agent_that_waits_for_a_route(ros, examine):
    (agent,) = nodes(ros, 'agent')
    agent.create_subscription(Path, topics.waypoints(ROLE), print, LATCHED)
    (finding,) = examine('endpoints')
    assert finding.text.startswith('no route: /agent waits for')
    assert finding.fix == 'start route_node, or carla_waypoint_publisher'


def domain_of_rcl():
    """The domain that rcl makes of the environment; None where it makes none."""
    context = rclpy.Context()
    try:
        context.init(args=[])
    except RuntimeError:
        return None
    domain_id = context.get_domain_id()
    context.try_shutdown()
    return domain_id


@pytest.mark.parametrize('text', ['7', '010', '0x10', ' 7', '+7', '7abc', 'abc', '08', '0x'])
def test_domain_is_read_as_rcl_does(monkeypatch, text):
    monkeypatch.setenv('ROS_DOMAIN_ID', text)
    assert read_domain_id(text) == domain_of_rcl()


PROFILE = """<transport_descriptors><transport_descriptor><transport_id>m</transport_id>
<type>SHM</type><segment_size>5242880</segment_size></transport_descriptor>
</transport_descriptors><participant profile_name="p" {}><rtps><userTransports>
<transport_id>m</transport_id></userTransports></rtps></participant>"""
DEFAULT = PROFILE.format('is_default_profile="true"')
SEGMENTS = """
import os, rclpy
rclpy.init()
node = rclpy.create_node('anybody')
for line in open('/proc/self/maps'):
    if '/dev/shm/' in line:
        print('segment', os.path.getsize(line.split()[5]))
"""


@pytest.mark.parametrize(
    ('text', 'is_used'),
    [
        (f'<profiles>{DEFAULT}</profiles>', True),
        (f'<dds><profiles>{DEFAULT}</profiles></dds>', True),
        (f'<profiles>{PROFILE.format("")}</profiles>', False),
        (f'<html>{DEFAULT}</html>', False),
    ],
    ids=['no namespace', 'dds', 'not default', 'html'],
)
def test_profile_is_read_as_fast_dds_does(ros, tmp_path, text, is_used):
    if os.environ.get('RMW_IMPLEMENTATION', DEFAULT_RMW) != DEFAULT_RMW:
        pytest.skip('another middleware')
    path = tmp_path / 'profile.xml'
    path.write_text(text, 'utf-8')
    others = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    environment = others | profile_variables(others, path)
    done = subprocess.run(
        [sys.executable, '-c', SEGMENTS],
        env=environment | {'ROS_DOMAIN_ID': str(ros.domain_id)},
        capture_output=True,
        text=True,
        check=True,
    )
    # A segment is a little larger than what was asked for; Fast DDS has its say there as well.
    words = [line.split() for line in done.stdout.splitlines()]
    sizes = [int(word[1]) for word in words if word[:1] == ['segment']]
    assert any(5 << 20 <= size < 6 << 20 for size in sizes) == is_used
    assert (read_profile(environment).segment_bytes == 5 << 20) == is_used


@pytest.mark.slow
def test_the_verb_looks_from_a_process_of_its_own(ros):
    (node,) = nodes(ros, 'bridge')
    node.create_publisher(Clock, '/clock', RELIABLE)
    words = ['doctor', '--live', '--json', '--seconds', '3', '--patience', '60']
    with subprocess.Popen(
        [sys.executable, '-m', 'td3_agent', *words],
        env=dict(os.environ, ROS_DOMAIN_ID=str(ros.domain_id)),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        ros.spin_until(lambda: process.poll() is not None, 'the doctor', deadline_s=90.0)
        report = json.loads(process.stdout.read())
    assert process.returncode == (1 if report['counts']['error'] else 0)
    clock = next(f for f in report['findings'] if f['check'] == 'clock')
    assert clock['text'] == 'published by /bridge'
    # The processes that it listens to are no strangers in the domain.
    assert not [f for f in report['findings'] if f['check'] == 'domain']


def test_a_slow_camera_and_what_nodes_say_of_it(ros, examine):
    images = ros.talk(Image, topics.image(ROLE, CAMERA))
    odometry = ros.talk(Odometry, topics.odometry(ROLE))
    diagnostics = ros.talk(DiagnosticArray, '/diagnostics')
    text = 'images come at 10 Hz, the policy was trained at 20 Hz: train at this rate'
    said = DiagnosticStatus(name='td3_agent', level=DiagnosticStatus.WARN, message=text)
    frames = iter(range(10**6))

    def tick():
        number = next(frames)
        header = Header(stamp=time_from_ns(10**10 + number * 50_000_000))
        odometry.publish(Odometry(header=header))
        if number % 2 == 0:
            images.publish(Image(header=header))
        diagnostics.publish(DiagnosticArray(status=[said]))

    ros.peer.create_timer(0.02, tick)
    (finding,) = examine('frames')
    assert finding.level is Level.WARNING
    assert finding.text == 'every second frame has no image: camera 10 Hz, bridge 20 Hz'
    assert finding.fix.startswith('set sensor_tick of the camera to 0.0 or 0.05')
    (told,) = examine('reports')
    assert told.text.startswith('td3_agent: images come at 10 Hz, the policy was trained at 20 Hz')


def test_a_bridge_that_waits_is_told(ros, examine):
    ros.talk(Odometry, topics.odometry(ROLE))
    (finding,) = examine('frames')
    assert finding.level is Level.WARNING
    assert 'no odometry in' in finding.text
