# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who may say what: the policy is what the nodes do, and a stranger is named."""

import os
from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree as ET

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.route_node import RouteNode
from td3_agent.nodes.sim_bridge_node import SimBridgeNode
from td3_agent.nodes.synchronizer_node import SynchronizerNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode

FOLDER = Path(__file__).parents[2] / 'security'
POLICY = ET.parse(FOLDER / 'policy.xml').getroot()
ROLE = '/carla/ego_vehicle'
# Used only at times: frames are reported once all is there, and diagnostics are heard while
# another node of the same name is about.
AT_TIMES = {
    'td3_agent': {
        ('publish', f'{ROLE}/agent/frame_report'),
        ('publish', f'{ROLE}/agent/frame_report/alive'),
        ('publish', f'{ROLE}/agent/waits'),
    },
    'gate': {
        ('publish', f'{ROLE}/gate/frame_report'),
        ('publish', f'{ROLE}/gate/frame_report/alive'),
        ('subscribe', '/diagnostics'),
    },
    'synchronizer': set(),
    'route': {('subscribe', '/diagnostics')},
    'carla_ros_bridge': {('subscribe', '/diagnostics')},
}
VARIANTS = {
    'td3_agent': (Td3AgentNode, [{'driver': 'pure_pursuit'}]),
    'gate': (
        GateNode,
        [{}, {'input': 'twist'}, {'mode': 'free_running'}],
    ),
    'synchronizer': (SynchronizerNode, [{}]),
    'route': (RouteNode, [{}]),
    'carla_ros_bridge': (SimBridgeNode, [{'start_paused': True, 'actor_list': True}]),
}
STRANGER = """
import rclpy
from carla_msgs.msg import CarlaEgoVehicleControl
rclpy.init()
node = rclpy.create_node('stranger')
topic = '/carla/ego_vehicle/vehicle_control_cmd'
publisher = node.create_publisher(CarlaEgoVehicleControl, topic, 10)
node.create_timer(0.05, lambda: publisher.publish(CarlaEgoVehicleControl(throttle=1.0)))
rclpy.spin(node)
"""


def profiles():
    return {profile.get('node'): profile for profile in POLICY.iter('profile')}


def allowed(node):
    """What the policy allows a node, as (what, name)."""
    found = set()
    for group in profiles()[node]:
        ((kind, word),) = group.attrib.items()
        assert word == 'ALLOW'
        found |= {(kind, item.text) for item in group}
    return found


def used(node):
    """What a living node does, as (what, name)."""
    name = node.get_name()
    return {
        *(('publish', t) for t, _ in node.get_publisher_names_and_types_by_node(name, '/')),
        *(('subscribe', t) for t, _ in node.get_subscriber_names_and_types_by_node(name, '/')),
        *(('reply', t) for t, _ in node.get_service_names_and_types_by_node(name, '/')),
    }


def test_policy_is_of_the_version_that_sros2_reads():
    assert (POLICY.tag, POLICY.get('version')) == ('policy', '0.2.0')
    assert [child.tag for child in POLICY] == ['enclaves']
    for enclave in POLICY.iter('enclave'):
        (of_profiles,) = enclave
        (profile,) = of_profiles
        assert (of_profiles.tag, profile.tag) == ('profiles', 'profile')
        assert [group.tag for group in profile] == ['topics', 'topics', 'services']
        for group in profile:
            assert {item.tag for item in group} == {group.tag.removesuffix('s')}
            names = [item.text for item in group]
            assert names == sorted(set(names))


def test_every_node_has_an_enclave_of_its_own():
    paths = [enclave.get('path') for enclave in POLICY.iter('enclave')]
    assert len(paths) == len(set(paths)) == len(profiles()) == len(VARIANTS)
    assert set(profiles()) == set(VARIANTS)


@pytest.mark.parametrize('name', VARIANTS)
def test_policy_allows_what_a_node_does_and_nothing_else(ros, name):
    cls, variants = VARIANTS[name]
    found = set()
    for parameters in variants:
        node = ros.make(cls, **parameters)
        found |= used(node)
        ros.drop(node)
    services = 'get_type_description'  # not of every ROS 2
    found = {item for item in found if services not in item[1]}
    wanted = {item for item in allowed(name) if services not in item[1]}
    assert found <= wanted
    assert wanted - found == AT_TIMES[name]


@pytest.mark.parametrize(
    ('topic', 'node'),
    [
        (f'{ROLE}/vehicle_control_cmd', 'gate'),
        ('/carla/control', 'synchronizer'),
        ('/clock', 'carla_ros_bridge'),
        (f'{ROLE}/twist', 'td3_agent'),
        (f'{ROLE}/twist_stamped', 'td3_agent'),
    ],
)
def test_what_moves_the_car_has_one_publisher(topic, node):
    assert [name for name in profiles() if ('publish', topic) in allowed(name)] == [node]


class TestKeystore:
    def test_without_the_tools_it_says_what_to_install(self, tmp_path):
        environment = {'PATH': '/usr/bin:/bin', 'ROS_DISTRO': 'jazzy'}
        done = make_keystore(tmp_path / 'keys', environment=environment)
        assert done.returncode == 3
        assert 'install ros-$ROS_DISTRO-sros2' in done.stderr
        assert not (tmp_path / 'keys').exists()

    def test_role_goes_into_every_topic(self, tmp_path):
        """A stand-in for ros2 keeps the policy that it is given."""
        fake = tmp_path / 'ros2'
        fake.write_text(
            '#!/bin/sh\n'
            '[ "$2" = --help ] || { echo "$@" > "$OUT/words"; cp "$6" "$OUT/policy"; }\n'
        )
        fake.chmod(0o755)
        environment = {'PATH': f'{tmp_path}:/usr/bin:/bin', 'OUT': str(tmp_path)}
        done = make_keystore('keys', 'hero', environment=environment)
        assert done.returncode == 0, done.stderr
        assert (
            (tmp_path / 'words').read_text().startswith('security generate_artifacts -k keys -p')
        )
        text = (tmp_path / 'policy').read_text()
        assert '/carla/hero/vehicle_control_cmd<' in text
        assert '/carla/ego_vehicle/' not in text

    @pytest.mark.parametrize('role', ['a/b', 'x y', '', '1', 'a|b'])
    def test_invalid_role_is_rejected(self, tmp_path, role):
        done = make_keystore(tmp_path / 'keys', role)
        assert done.returncode == 2 or not role  # empty: the default


def make_keystore(*words, environment=None):
    return subprocess.run(
        [FOLDER / 'make_keystore.sh', *map(str, words)],
        env=environment or {'PATH': '/usr/bin:/bin'},
        capture_output=True,
        text=True,
        check=False,
    )


def test_stranger_who_commands_is_named_by_gate_and_synchronizer(ros, diagnosed):
    """Without SROS 2 any node can publish; diagnostics name the duplicate."""
    ros.make(GateNode)
    ros.make(SynchronizerNode)
    environment = dict(os.environ, ROS_DOMAIN_ID=str(ros.domain_id))
    stranger = subprocess.Popen([sys.executable, '-c', STRANGER], env=environment)
    try:
        for node in ('gate', 'synchronizer'):
            ros.spin_until(lambda node=node: is_named(diagnosed(f'{node}: connections')), node)
    finally:
        stranger.kill()
        stranger.wait()


def is_named(status):
    return (
        status is not None
        and status.level == DiagnosticStatus.ERROR
        and '/stranger' in status.message
        and 'end all but one' in status.message
    )
