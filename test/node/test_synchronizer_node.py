# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The synchronizer against a bridge that a test can make misbehave."""

import re

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaLaneInvasionEvent,
    CarlaStatus,
)
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from harness.bridge import PAUSE, STEP_ONCE, FakeBridge, Vehicle
from harness.ledgers import check_ledger
from harness.messages import ROLE
from nav_msgs.msg import Odometry
import pytest
from rclpy.clock import ClockType
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.ledger import UNWRITTEN_FRAMES, read_ledger
from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.driving.stages import END_TO_END, STAGES
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import report_message, stamp_ns, time_from_ns
from td3_agent.nodes.liveliness import LivelinessWatch
from td3_agent.nodes.synchronizer_node import SynchronizerNode


@pytest.fixture
def bridge(ros):
    return FakeBridge(ros).start_drivers()


@pytest.fixture
def start(ros, tmp_path):
    """Start the synchronizer, as fast as possible, with a ledger."""

    def started(**parameters):
        defaults = {
            'real_time_factor': 0.0,
            'ledger_path': str(tmp_path / 'ledger.jsonl'),
            'pause_timeout_s': 1.1,
        }
        return ros.make(SynchronizerNode, **(defaults | parameters))

    return started


@pytest.fixture
def records(tmp_path, ros):
    """Return a function that ends the synchronizer and reads its ledger."""

    def read(node):
        if not node.finished.done():
            node.core.lockstep.stop()
        ros.drop(node)
        return list(read_ledger(tmp_path / 'ledger.jsonl'))

    return read


def spin_looks(ros, node, count=3):
    """Spin until the node has looked around so often."""
    looks = []
    look = node.look_around
    timer = next(t for t in node.timers if t.callback == look)
    timer.callback = lambda: looks.append(look())
    ros.spin_until(lambda: len(looks) >= count, 'looks')
    timer.callback = look


class TestStepping:
    def test_pauses_then_one_step_per_answered_frame(self, ros, bridge, start, records):
        node = start(max_frames=20)
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.orders == [PAUSE] + [STEP_ONCE] * 20
        assert node.exit_status == 0
        ledger = records(node)
        assert check_ledger(ledger) == []
        assert [record['frame'] for record in ledger] == list(range(2, 22))
        for record in ledger:
            assert record['outcome'] == 'ok'
            assert record['commands'] == 1
            assert record['action'] == [0.5, 0.0]
            assert record['speed_mps'] == 3.0
            assert record['sent']['throttle'] == 0.5
        assert [record['applied'] for record in ledger[:-1]] == [r['sent'] for r in ledger[:-1]]

    def test_recorder_of_the_orders_is_no_bridge(self, ros, start):
        orders = ros.listen(CarlaControl, topics.CONTROL)
        vehicle = Vehicle(ros, ROLE, bridge=None)
        vehicle.start_gate(ros)
        vehicle.start_agent(ros)
        node = start()
        ros.spin_until(lambda: node.core.readiness.absent == ['bridge'], 'the others')
        ros.spin_until(lambda: node.count_subscribers(topics.CONTROL), 'the recorder')
        spin_looks(ros, node)
        assert orders == []
        FakeBridge(ros, spawned=False)
        ros.spin_until(lambda: orders, 'an order')
        assert [msg.command for msg in orders] == [PAUSE]

    def test_gate_without_a_response_learns_that_the_step_has_ended(self, ros, bridge, start):
        """Only after an idle stop, until the next good response."""
        ended = ros.listen(Header, topics.step_ended(ROLE))
        bridge.answering = False
        node = start(max_frames=3)
        for frame in (1, 2):
            ros.spin_until(lambda n=frame: bridge.steps == n, 'a step')
            bridge.on_command(ROLE)  # as if it were the gate's
            ros.spin_until(lambda: node.core.lockstep.phase.name == 'WAITING', 'waiting')
            if frame == 1:
                assert not ended
                bridge.vehicles[ROLE].hold(bridge.stamp)
                ros.spin_until(lambda: ended, 'the word')
                told = stamp_ns(bridge.stamp)
            bridge.vehicles[ROLE].answer(bridge.stamp)
        bridge.answering = True
        ros.spin_until(node.finished.done, 'the last frame')
        assert [stamp_ns(word.stamp) for word in ended] == [told]

    def test_stop_service(self, ros, bridge, start, records):
        node = start()
        client = ros.peer.create_client(Trigger, '/synchronizer/stop')
        ros.spin_until(lambda: client.service_is_ready() and bridge.steps >= 5, 'some steps')
        future = client.call_async(Trigger.Request())
        ros.spin_until(future.done, 'the answer')
        assert future.result().success
        assert future.result().message == f'ended after {node.core.lockstep.counts.steps} steps'
        steps = bridge.steps
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.steps == steps
        again = client.call_async(Trigger.Request())
        ros.spin_until(again.done, 'the second answer')
        assert check_ledger(records(node)) == []

    def test_two_roles(self, ros, start, records):
        bridge = FakeBridge(ros, ('red', 'blue')).start_drivers()
        bridge.answering = False
        node = start(role_names=['red', 'blue'], max_frames=4)
        for n in range(1, 5):
            ros.spin_until(lambda n=n: bridge.steps == n, 'a step')
            bridge.vehicles['red'].answer(bridge.stamp)
            ros.spin_until(lambda: bridge.loop.missing == {'blue'}, 'red has answered')
            assert bridge.steps == n
            bridge.vehicles['blue'].answer(bridge.stamp, throttle=0.25)
        ros.spin_until(node.finished.done, 'the end')
        ledger = records(node)
        assert check_ledger(ledger) == []
        for role, throttle in (('red', 0.5), ('blue', 0.25)):
            sent = [record['sent'] for record in ledger if record['role_name'] == role]
            assert [control['throttle'] for control in sent] == [throttle] * 4

    def test_restarted_bridge_is_paused_again(self, ros, bridge, start):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 5, 'some steps')
        bridge.deaf = 1
        ros.spin_until(lambda: not bridge.deaf, 'a step that is lost')
        before = len(bridge.orders)
        bridge.restart(frame=0)
        bridge.loop.publish_status()
        spin_looks(ros, node)
        assert PAUSE not in bridge.orders[before:]  # the vehicle in the graph may be a dead one's
        bridge.play()
        ros.spin_until(lambda: PAUSE in bridge.orders[before:], 'paused again')
        assert node.core.lockstep.counts.restarts == 1
        steps = bridge.steps
        ros.spin_until(lambda: bridge.steps > steps + 3, 'stepping again')


def test_every_timer_is_steady(start):
    assert {t.clock.clock_type for t in start().timers} == {ClockType.STEADY_TIME}


class TestLiveliness:
    def test_no_step_while_liveliness_is_lost(self, ros, bridge, start, monkeypatch):
        """The graph still shows the agent; its middleware has gone silent."""
        node = start()
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')
        watch = node.members.liveliness[f'agent of {ROLE}']
        lost = {'is_lost': True}
        monkeypatch.setattr(
            LivelinessWatch, 'is_lost', property(lambda it: it is watch and lost['is_lost'])
        )
        spin_looks(ros, node)
        steps = bridge.steps
        spin_looks(ros, node)
        assert bridge.steps == steps
        assert node.core.readiness.absent == [f'agent of {ROLE}']
        lost['is_lost'] = False
        ros.spin_until(lambda: bridge.steps >= steps + 3, 'steps again')


class TestFullDisk:
    def test_ledger_ends_and_the_drive_goes_on(self, ros, bridge, start, diagnosed, capfd):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')

        def full(_):
            raise OSError(28, 'No space left on device')

        node.core.ledger.writer.write = full
        ros.spin_until(lambda: node.core.ledger.writer is None, 'the end of the ledger')
        steps = bridge.steps
        ros.spin_until(lambda: bridge.steps >= steps + 10, 'steps')
        text = 'the ledger has ended, the drive goes on: '
        said = diagnosed.wait('synchronizer', text, DiagnosticStatus.ERROR)
        assert said.message.endswith('No space left on device')
        node.close()
        assert capfd.readouterr().err.count('the ledger has ended') == 1


class TestWaiting:
    def test_for_gate_and_agent(self, ros, start, diagnosed):
        bridge = FakeBridge(ros)
        node = start()
        ros.spin_until(lambda: bridge.orders == [PAUSE], 'the pause')
        spin_looks(ros, node)
        assert bridge.steps == 0
        text = 'no step while these are silent or missing: '
        diagnosed.wait('synchronizer', text, DiagnosticStatus.WARN)
        bridge.vehicles[ROLE].start_gate(ros)
        spin_looks(ros, node)
        assert bridge.steps == 0
        bridge.vehicles[ROLE].start_agent(ros)
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')

    def test_agent_may_be_left_out(self, ros, start):
        bridge = FakeBridge(ros)
        start(wait_for_agent=False)
        bridge.vehicles[ROLE].start_gate(ros)
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')

    def test_stepping_pauses_while_the_agent_is_away(self, ros, bridge, start, records):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')
        vehicle = bridge.vehicles[ROLE]
        ros.peer.destroy_publisher(vehicle.agent_pub)
        vehicle.agent_pub = None
        ros.spin_until(lambda: node.core.readiness.absent, 'seen to be away')
        spin_looks(ros, node)
        steps = bridge.steps
        spin_looks(ros, node)
        assert bridge.steps == steps
        vehicle.start_agent(ros)
        ros.spin_until(lambda: bridge.steps >= steps + 3, 'steps again')
        assert check_ledger(records(node)) == []

    def test_for_a_bridge_that_starts_last(self, ros, start):
        node = start(max_frames=3)
        spin_looks(ros, node)
        bridge = FakeBridge(ros).start_drivers()
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.orders == [PAUSE] + [STEP_ONCE] * 3

    def test_odometry_may_have_another_topic(self, ros, start, records):
        bridge = FakeBridge(ros, spawned=False)
        node = start(max_frames=3, odometry_topic='/odom')
        bridge.spawn(odometry_topic='/odom')
        bridge.start_drivers()
        ros.spin_until(node.finished.done, 'the end')
        assert [record['speed_mps'] for record in records(node)] == [3.0] * 3

    def test_for_the_vehicle_before_the_pause(self, ros, start, diagnosed):
        """A paused bridge spawns nothing: it would wait for its vehicle for ever."""
        bridge = FakeBridge(ros, spawned=False)
        node = start(max_frames=3, pause_timeout_s=20.0)
        ros.spin_until(
            lambda: (
                diagnosed('synchronizer')
                and f'vehicle of {ROLE}' in diagnosed('synchronizer').message
            ),
            'diagnosed',
        )
        bridge.loop.publish_status()
        spin_looks(ros, node)
        assert not bridge.orders
        bridge.spawn()
        bridge.start_drivers()
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.orders == [PAUSE] + [STEP_ONCE] * 3


class TestViolations:
    def test_command_that_was_not_executed(self, ros, bridge, start, records):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 5, 'steps')
        vehicle = bridge.vehicles[ROLE]
        publish_frame = vehicle.publish_frame

        def with_another_command(stamp):
            vehicle.newest = CarlaEgoVehicleControl(brake=0.75)
            publish_frame(stamp)
            vehicle.publish_frame = publish_frame

        vehicle.publish_frame = with_another_command
        ros.spin_until(lambda: node.core.ledger.logs[ROLE].counts.misapplied, 'slipped')
        (fault,) = check_ledger(records(node))
        assert 'applied' in fault
        assert '0.75' in fault
        assert node.core.ledger.logs[ROLE].counts.violations == 1
        assert node.exit_status == 1


class TestTakenBack:
    def test_bridge_that_plays_is_paused_and_reported(
        self, ros, bridge, start, diagnosed, tmp_path
    ):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 5, 'steps')
        orders = len(bridge.orders)
        while PAUSE not in bridge.orders[orders:]:  # as fast as possible
            bridge.play()
            ros.executor.spin_once(timeout_sec=0.0)
        ros.spin_until(
            lambda: (
                (said := diagnosed('synchronizer'))
                and 'went on by itself and is paused again' in said.message
            ),
            'diagnosed',
        )
        assert diagnosed('synchronizer').level == DiagnosticStatus.WARN
        steps = bridge.steps
        ros.spin_until(lambda: bridge.steps >= steps + 8, 'steps again')
        assert node.core.lockstep.counts.uninvited >= 1
        ros.drop(node)
        audit = audit_ledger(tmp_path / 'ledger.jsonl')
        assert audit.checks['chain'].holds
        assert audit.events[0]['event'] == 'free_running'
        assert 'frames without a step' in audit.checks['events'].note

    def test_second_bridge_is_named_on_the_console(self, ros, bridge, start, capfd):
        start()
        ros.spin_until(lambda: bridge.steps >= 5, 'steps')
        second, lines = ros.talk(CarlaStatus, topics.STATUS), []

        def is_told():
            for frame in (90_000, 3):  # another count, again and again
                second.publish(CarlaStatus(frame=frame, fixed_delta_seconds=0.05))
            lines.extend(capfd.readouterr().err.splitlines())
            return any('two bridges in ROS domain' in line for line in lines)

        ros.spin_until(is_told, 'named on the console')
        assert not any(re.search(r'two bridges in ROS domain \d+ for', line) for line in lines)

    @pytest.mark.usefixtures('bridge')
    def test_verdict_of_errors_and_warnings_is_on_the_console(
        self, ros, start, capfd, monkeypatch
    ):
        node = start()
        close = node.core.close
        found = [Finding('stands', is_error=False), Finding('stopped', is_error=True)]
        monkeypatch.setattr(node.core, 'close', lambda said: [*close(said), *found])
        ros.drop(node)
        assert re.findall(r'\[(\w+)\].*: (stands|stopped)', capfd.readouterr().err) == [
            ('WARN', 'stands'),
            ('ERROR', 'stopped'),
        ]


class TestReports:
    def test_events_reach_the_ledger(self, ros, bridge, start, records):
        bridge.answering = False
        node = start(max_frames=2)
        vehicle = bridge.vehicles[ROLE]
        ros.spin_until(lambda: bridge.steps == 1, 'a step')
        collision = CarlaCollisionEvent(other_actor_id=207)
        invasion = CarlaLaneInvasionEvent(crossed_lane_markings=[1, 2])
        collision.header.stamp = invasion.header.stamp = bridge.stamp
        vehicle.collision_pub.publish(collision)
        vehicle.invasion_pub.publish(invasion)
        bridge.answering = True
        vehicle.answer(bridge.stamp)
        ros.spin_until(node.finished.done, 'the end')
        first, second = records(node)
        assert (first['collision'], first['lane_invasion']) == (207, [1, 2])
        assert 'collision' not in second

    @pytest.mark.usefixtures('bridge')
    def test_stages_add_up_to_what_the_synchronizer_sees(self, ros, start, records):
        node = start(max_frames=8)
        ros.spin_until(node.finished.done, 'the end')
        for record in records(node):
            assert list(record['stages_ns']) == list(STAGES)
            assert min(record['stages_ns'].values()) >= 0
            whole_ns = record['frame_closed_ns'] - record['step_sent_ns']
            assert sum(record['stages_ns'].values()) == whole_ns

    @pytest.mark.usefixtures('bridge')
    def test_stages_are_diagnosed(self, ros, start, diagnosed):
        start()
        wanted = {f'{stage}_{p}_ms' for stage in (*STAGES, END_TO_END) for p in ('p50', 'p99')}
        wanted.add('ledger_slowest_write_ms')
        ros.spin_until(
            lambda: (said := diagnosed('synchronizer')) and wanted <= {p.key for p in said.values},
            'diagnosed',
        )

    def test_impossible_messages_are_rejected_and_survived(self, ros, bridge, start, records):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 2, 'steps')
        vehicle = bridge.vehicles[ROLE]
        command, odometry = CarlaEgoVehicleControl(throttle=0.5), Odometry()
        odometry.header.frame_id = 'map'
        command.header.stamp.nanosec = 1_000_000_000
        vehicle.command_pub.publish(command)
        odometry.pose.pose.orientation.w = 0.0
        vehicle.odometry_pub.publish(odometry)
        bridge.clock_pub.publish(Clock(clock=time_from_ns(-1)))
        report = report_message(bridge.stamp, 'agent', {})
        report.status[0].values = [KeyValue(key='action', value='{not JSON')]
        vehicle.agent_pub.publish(report)
        ros.spin_until(lambda: node.wiring.rejections.count == 4, 'all four rejected')
        steps = bridge.steps
        ros.spin_until(lambda: bridge.steps >= steps + 8, 'more steps')
        assert check_ledger(records(node)) == []

    @pytest.mark.usefixtures('bridge')
    def test_without_a_ledger(self, ros, start):
        node = start(ledger_path='', max_frames=5)
        ros.spin_until(node.finished.done, 'the end')
        assert node.core.ledger.logs[ROLE].counts.frames >= 1

    def test_a_kill_loses_no_more_than_it_may(self, ros, bridge, start, tmp_path):
        """The worst moment: the step of the next frame is out, the line not yet written."""
        most_lost = UNWRITTEN_FRAMES + 3
        node = start(ledger_flush_frames=most_lost)
        close_ended, ended, lost = node.core.ledger.close_ended, [], []

        def looked_at(found, fields):
            if not found:
                return
            ended.append(node.core.lockstep.frame)
            on_disk = [record['frame'] for record in read_ledger(tmp_path / 'ledger.jsonl')]
            lost.append(ended[-1] + 1 - max(on_disk, default=ended[0] - 1))
            close_ended(found, fields)

        node.core.ledger.close_ended = looked_at
        ros.spin_until(lambda: bridge.steps >= 20, 'steps')
        assert max(lost) == most_lost
