# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The live view logs the topics of a drive and delays no publisher."""

from importlib.util import find_spec
import pathlib
import socket
import time

import pytest

if find_spec('rerun') is None:
    pytest.skip('rerun-sdk is not installed', allow_module_level=True)

from carla_msgs.msg import CarlaEgoVehicleControl
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from td3_agent.bags.watch import blueprint
from td3_agent.bags.watch_node import WatchNode, WatchTopics
from td3_agent.driving.observation import ObservationSpec
from td3_agent.nodes.runtime import LATCHED

ROLE = '/carla/hero'


class Log:
    """Stands in for a recording: keeps what was logged where."""

    def __init__(self):
        self.logged, self.times = {}, []

    def set_time(self, timeline, duration):
        assert timeline == 'sim'
        self.times.append(duration)

    def log(self, path, thing, **_):
        self.logged.setdefault(path, []).append(type(thing).__name__)


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def node(ros, log):
    watched = WatchTopics(
        role_name='hero', image=f'{ROLE}/camera/image', odometry=f'{ROLE}/odometry'
    )
    return ros.make(lambda **kwargs: WatchNode(log, watched, ObservationSpec(), **kwargs))


@pytest.mark.usefixtures('node')
def test_absent_vehicle_is_named_once(ros, log):
    ros.spin_until(lambda: log.logged, 'the warning')
    assert log.logged == {'diagnostics': ['TextLog']}


@pytest.mark.usefixtures('node')
def test_everything_is_shown(ros, log):
    image = Image(height=8, width=8, encoding='bgra8', step=32, data=bytes(256))
    image.header.stamp.sec = 7
    motion = Odometry()
    motion.header.frame_id = 'map'
    motion.pose.pose.orientation.w = 1.0
    path = Path(poses=[PoseStamped() for _ in range(3)])
    for i, pose in enumerate(path.poses):
        pose.pose.position.x = 10.0 * i
    status = DiagnosticStatus(name='agent', level=DiagnosticStatus.ERROR, message='late')
    said = [
        (Path, f'{ROLE}/waypoints', LATCHED, path),
        (Image, f'{ROLE}/camera/image', None, image),
        (CarlaEgoVehicleControl, f'{ROLE}/vehicle_control_cmd', None, CarlaEgoVehicleControl()),
        (DiagnosticArray, '/diagnostics', None, DiagnosticArray(status=[status, status])),
        (Odometry, f'{ROLE}/odometry', None, motion),
    ]
    publishers = [ros.talk(kind, topic, qos) for kind, topic, qos, _ in said]
    ros.spin_until_matched()
    publishers[0].publish(said[0][3])
    ros.spin_until(lambda: 'map/route' in log.logged, 'the route is shown')
    for publisher, (_, _, _, message) in zip(publishers[1:], said[1:], strict=True):
        publisher.publish(message)
    shown = {'camera/image', 'network/input', 'plots/speed', 'plots/lateral_error', 'map/car'}
    shown |= {'control/steer', 'control/throttle', 'control/brake', 'diagnostics'}
    ros.spin_until(lambda: shown <= set(log.logged), 'all is shown')
    assert log.logged['diagnostics'] == ['TextLog']  # said twice, shown once
    assert 7.0 in log.times
    assert blueprint() is not None


@pytest.mark.usefixtures('node')
def test_it_never_holds_up_a_publisher(ros):
    for topic in (f'{ROLE}/camera/image', f'{ROLE}/odometry', f'{ROLE}/vehicle_control_cmd'):
        (found,) = ros.peer.get_subscriptions_info_by_topic(topic)
        assert found.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_the_page_is_served_on_this_machine_alone():
    from urllib.request import urlopen

    from td3_agent.bags.watch import _answers, _end, start_server

    port, data_port = free_ports(2)
    server = start_server(port, data_port, 50)
    try:
        with urlopen(f'http://127.0.0.1:{port}/') as page:
            assert b'rerun' in page.read().lower()
        listening = pathlib.Path('/proc/net/tcp').read_text('utf-8').splitlines()
        addresses = {line.split()[1] for line in listening if line.split()[3] == '0A'}
        assert f'0100007F:{port:04X}' in addresses
        assert not {f'00000000:{number:04X}' for number in (port, data_port)} & addresses
        with pytest.raises(ValueError, match=f'--port {port} is in use'):
            start_server(port, data_port, 50)
    finally:
        _end(server)
    deadline_s = time.monotonic() + 20.0
    while any(_answers(number) for number in (port, data_port)):
        assert time.monotonic() < deadline_s, 'the server is still there'
        time.sleep(0.05)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(('127.0.0.1', 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
