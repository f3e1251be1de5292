# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the synchronizer notices of a drive, from the graph and from what other nodes say."""

from carla_msgs.msg import CarlaControl, CarlaStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import pytest
from rclpy.node import Node

from td3_agent.driving.endpoints import Breaks
from td3_agent.driving.loop_check import LATE_COMMAND, WITHOUT_COMMAND
from td3_agent.driving.reports import CAUSE
from td3_agent.nodes import topics
from td3_agent.nodes.liveliness import DriveCheck, ExclusiveTopic

REPORTS = topics.gate_report('ego_vehicle')
SLOW_CAMERA = 'every second frame has no image: camera 10 Hz, bridge 20 Hz'


class Drive:
    """A check, and what broke the frames of its drive."""

    def __init__(self, ros):
        self.breaks = Breaks()
        node = ros.make(Node, 'stepper')
        exclusive = {
            'bridge': ExclusiveTopic(topics.STATUS, reads=topics.CONTROL),
            'synchronizer': ExclusiveTopic(topics.CONTROL, reads=REPORTS),
        }
        self.check = DriveCheck(node, exclusive, lambda: self.breaks)
        self.check.is_driving = True

    def texts(self):
        return [finding.text for finding in self.check.duplicates() + self.check.reported()]


@pytest.fixture
def drive(ros):
    return Drive(ros)


def say(part, text, cause='', level=DiagnosticStatus.WARN):
    values = [KeyValue(key=CAUSE, value=cause)]
    status = DiagnosticStatus(name=part, message=text, level=level, values=values)
    return DiagnosticArray(status=[status])


def test_a_second_bridge_is_named_after_it_has_left_too(ros, drive):
    ros.listen(CarlaControl, topics.CONTROL)
    first = ros.talk(CarlaStatus, topics.STATUS)
    second = ros.talk(CarlaStatus, topics.STATUS)
    ros.spin_until(drive.check.duplicates, 'seen')
    (found,) = drive.check.duplicates()
    assert not found.is_error  # the one may be dead
    drive.breaks = Breaks(restarts=90)
    ros.spin_until(lambda: drive.check.duplicates()[0].is_error, 'seen to break frames')
    ros.peer.destroy_publisher(second)
    ros.peer.destroy_publisher(first)
    ros.spin_until(lambda: not ros.peer.count_publishers(topics.STATUS), 'gone')
    (found,) = drive.check.duplicates()
    assert found.is_error
    assert found.text.startswith(f'two bridges in ROS domain {ros.domain_id} for ')
    assert '/peer twice' in found.text


def test_a_program_that_sends_orders_is_no_second_synchronizer(ros, drive):
    own = ros.make(Node, 'own')
    own.create_publisher(CarlaControl, topics.CONTROL, 1)
    own.create_subscription(DiagnosticArray, REPORTS, print, 1)
    ros.talk(CarlaControl, topics.CONTROL)
    ros.spin_until(drive.texts, 'seen')
    (text,) = drive.texts()
    assert text.startswith('/peer also publishes /carla/control')
    another = ros.make(Node, 'another')
    another.create_publisher(CarlaControl, topics.CONTROL, 1)
    another.create_subscription(DiagnosticArray, REPORTS, print, 1)
    ros.spin_until(lambda: len(drive.texts()) == 2, 'both seen')
    assert drive.texts()[0].startswith('synchronizer: /another and /own in ROS domain')


def test_what_was_there_before_the_first_step_does_not_count(ros, drive):
    drive.check.is_driving = False
    for _ in range(2):
        ros.talk(CarlaStatus, topics.STATUS)
    diagnostics = ros.talk(DiagnosticArray, '/diagnostics')
    heard = ros.listen(DiagnosticArray, '/diagnostics')
    ros.spin_until_matched()
    diagnostics.publish(say('td3_agent: loop', SLOW_CAMERA))
    ros.spin_until(lambda: len(heard) == 1, 'heard')
    drive.breaks = Breaks(9)
    assert drive.texts() == []


def test_causes_that_others_name_are_kept_in_their_newest_words(ros, drive):
    diagnostics = ros.talk(DiagnosticArray, '/diagnostics')
    ros.spin_until_matched()
    for part, text, cause, level in (
        ('td3_agent: loop', 'the loop drives as it should', '', DiagnosticStatus.OK),
        ('td3_agent: connections', 'no publisher on', 'no_image', DiagnosticStatus.WARN),
        ('gate: loop', 'in the ledger', WITHOUT_COMMAND, DiagnosticStatus.WARN),
        ('td3_agent: loop', 'camera 9 Hz', 'no_image', DiagnosticStatus.WARN),
        ('td3_agent: loop', SLOW_CAMERA, 'no_image', DiagnosticStatus.ERROR),
        ('gate: loop', 'too late', LATE_COMMAND, DiagnosticStatus.WARN),
    ):
        diagnostics.publish(say(part, text, cause, level))
    ros.spin_until(lambda: len(drive.texts()) == 2, 'heard')
    assert drive.texts() == [f'td3_agent: {SLOW_CAMERA}', 'gate: too late']
    assert not any(finding.is_error for finding in drive.check.reported())
