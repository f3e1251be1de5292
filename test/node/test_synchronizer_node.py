# SPDX-License-Identifier: Apache-2.0
"""The synchronizer against a bridge that a test can make misbehave."""

from itertools import pairwise
import re

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
)
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import Odometry
import pytest
import rclpy
from rclpy.clock import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.ledger import UNWRITTEN_FRAMES, check_ledger, read_ledger
from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.stages import END_TO_END, STAGES
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import report_message, stamp_ns, time_from_ns
from td3_agent.nodes.liveliness import LivelinessWatch, liveliness_publisher
from td3_agent.nodes.runtime import REPORTS, steady_ns
from td3_agent.nodes.synchronizer_node import SynchronizerNode

ROLE = 'ego_vehicle'
STEP_NS = 50_000_000
START_NS = 10_000_000_000
PAUSE, STEP_ONCE = CarlaControl.PAUSE, CarlaControl.STEP_ONCE


AGENT_INSTANTS = (
    'image_received_ns',
    'image_prepared_ns',
    'odometry_received_ns',
    'observed_ns',
    'decided_ns',
    'twist_published_ns',
)
GATE_INSTANTS = ('twist_received_ns', 'gate_published_ns')


class Vehicle:
    """One role of the fake bridge, with its gate and its agent."""

    def __init__(self, ros, role, bridge, odometry=None):
        self.role = role
        self.bridge = bridge
        self.applied = CarlaEgoVehicleControl()
        self.newest = CarlaEgoVehicleControl()
        self.status_pub = ros.talk(CarlaEgoVehicleStatus, topics.vehicle_status(role))
        self.odometry_pub = ros.talk(Odometry, odometry or topics.odometry(role))
        self.command_pub = ros.talk(CarlaEgoVehicleControl, topics.control(role))
        self.collision_pub = ros.talk(CarlaCollisionEvent, topics.collision(role))
        self.invasion_pub = ros.talk(CarlaLaneInvasionEvent, topics.lane_invasion(role))
        self.gate_pub = self.agent_pub = None
        ros.listen(CarlaEgoVehicleControl, topics.control(role), react=self.on_command)

    def announce_gate(self, ros):
        self.gate_pub = ros.talk(DiagnosticArray, topics.gate_report(self.role), REPORTS)

    def announce_agent(self, ros):
        self.agent_pub = ros.talk(DiagnosticArray, topics.agent_report(self.role), REPORTS)

    def on_command(self, msg):
        self.newest = msg
        self.bridge.on_command(self.role)

    def publish_frame(self, stamp):
        status = CarlaEgoVehicleStatus(control=self.newest)
        status.header.stamp = stamp
        self.status_pub.publish(status)
        odometry = Odometry()
        odometry.header.frame_id = 'map'
        odometry.header.stamp = stamp
        odometry.pose.pose.orientation.w = 1.0
        odometry.twist.twist.linear.x = 3.0
        self.odometry_pub.publish(odometry)

    def hold(self, stamp):
        """What the gate says between frames."""
        command = CarlaEgoVehicleControl(brake=1.0)
        command.header.stamp = stamp
        self.command_pub.publish(command)
        self.gate_pub.publish(report_message(stamp, 'gate', {'outcome': 'stopped_silence'}))

    def answer(self, stamp, **control):
        """What the gate says for a frame, and what gate and agent report of it."""
        now_ns = steady_ns()
        command = CarlaEgoVehicleControl(**({'throttle': 0.5} | control))
        command.header.stamp = stamp
        self.command_pub.publish(command)
        if self.agent_pub:
            facts = {'action': [0.5, 0.0]} | dict.fromkeys(AGENT_INSTANTS, now_ns)
            self.agent_pub.publish(report_message(stamp, 'agent', facts))
        if self.gate_pub:
            facts = {'outcome': 'ok'} | dict.fromkeys(GATE_INSTANTS, now_ns)
            self.gate_pub.publish(report_message(stamp, 'gate', facts))


class FakeBridge:
    """Steps when told to, and lets a test interfere with every part of a step."""

    def __init__(self, ros, roles=(ROLE,), *, spawned=True):
        self.ros = ros
        self.orders = []
        self.frame = 1
        self.running = True
        self.step_s = 0.05
        self.answering = True
        self.acknowledging = True
        self.ticks = 1  # per STEP_ONCE
        self.deaf = 0  # orders to come that are lost
        self.clockless = set()  # frames whose /clock is lost
        self.missing = set()
        self.status_pub = ros.talk(CarlaStatus, topics.STATUS)
        self.clock_pub = ros.talk(Clock, '/clock')
        ros.listen(CarlaControl, topics.CONTROL, react=self.on_order)
        self.vehicles = {}
        if spawned:
            self.spawn(roles)

    def spawn(self, roles=(ROLE,), odometry=None):
        """What a bridge does for its service between two ticks, so never while it is paused."""
        assert PAUSE not in self.orders
        self.vehicles = {role: Vehicle(self.ros, role, self, odometry) for role in roles}

    def announce(self):
        for vehicle in self.vehicles.values():
            vehicle.announce_gate(self.ros)
            vehicle.announce_agent(self.ros)
        return self

    @property
    def stamp(self):
        return time_from_ns(START_NS + self.frame * STEP_NS)

    @property
    def steps(self):
        return self.orders.count(STEP_ONCE)

    def say_status(self, running):
        self.running = running
        self.status_pub.publish(
            CarlaStatus(
                frame=self.frame,
                fixed_delta_seconds=self.step_s,
                synchronous_mode=True,
                synchronous_mode_running=running,
            )
        )

    def on_order(self, msg):
        self.orders.append(msg.command)
        if self.deaf:
            self.deaf -= 1
        elif msg.command == PAUSE:
            if self.running:
                self.say_status(running=False)
        else:
            self.say_status(running=True)
            for _ in range(self.ticks):
                self.tick()

    def tick(self):
        self.frame += 1
        self.missing = set(self.vehicles)
        self.say_status(running=True)
        if self.frame not in self.clockless:
            self.clock_pub.publish(Clock(clock=self.stamp))
        for vehicle in self.vehicles.values():
            vehicle.publish_frame(self.stamp)
            if self.answering:
                vehicle.answer(self.stamp)

    def on_command(self, role):
        if role in self.missing:
            self.missing.remove(role)
            if not self.missing:
                self.say_status(running=False)


@pytest.fixture
def bridge(ros):
    return FakeBridge(ros).announce()


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
    look = node._look_around
    timer = next(t for t in node.timers if t.callback == look)
    timer.callback = lambda: looks.append(look())
    ros.spin_until(lambda: len(looks) >= count, 'looks')
    timer.callback = look


class TestStepping:
    def test_pauses_then_one_step_per_answered_frame(self, ros, bridge, start, records):
        node = start(max_frames=20)
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.orders == [PAUSE] + [STEP_ONCE] * 20
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
        vehicle.announce_gate(ros)
        vehicle.announce_agent(ros)
        node = start()
        ros.spin_until(lambda: node.core.attendance.absent == ['bridge'], 'the others')
        ros.spin_until(lambda: node.count_subscribers(topics.CONTROL), 'the recorder')
        spin_looks(ros, node)
        assert orders == []
        FakeBridge(ros, spawned=False)
        ros.spin_until(lambda: orders, 'an order')
        assert [msg.command for msg in orders] == [PAUSE]

    def test_no_step_before_the_answer(self, ros, bridge, start):
        bridge.answering = False
        node = start()
        for n in range(1, 6):
            ros.spin_until(lambda n=n: len(bridge.orders) == 1 + n, 'a step')
            spin_looks(ros, node)
            assert bridge.steps == n
            bridge.vehicles[ROLE].answer(bridge.stamp)

    def test_acknowledgement_alone_is_not_enough(self, ros, bridge, start, records):
        """That is what a bridge sends after its own timeout, too."""
        bridge.answering = False
        node = start(command_timeout_s=0.3, max_frames=2)
        ros.spin_until(lambda: bridge.steps == 1, 'a step')
        bridge.say_status(running=False)
        ros.spin_until(lambda: node.core.lockstep.phase.name == 'HOLDING', 'holding')
        assert bridge.steps == 1
        ros.spin_until(lambda: bridge.steps == 2, 'the next step, after the patience')
        bridge.vehicles[ROLE].answer(bridge.stamp)
        ros.spin_until(node.finished.done, 'the end')
        assert node.core.lockstep.counts.no_command == 1
        assert [record['outcome'] for record in records(node)] == ['no_command', 'ok']

    def test_gate_that_has_not_answered_is_told_that_the_step_has_ended(self, ros, bridge, start):
        """Only where there is a doubt: after a stop between frames, until the next good answer."""
        ended = ros.listen(Header, topics.step_ended(ROLE))
        bridge.answering = False
        node = start(max_frames=3)
        for frame in (1, 2):
            ros.spin_until(lambda n=frame: bridge.steps == n, 'a step')
            bridge.say_status(running=False)
            ros.spin_until(lambda: node.core.lockstep.phase.name == 'HOLDING', 'holding')
            if frame == 1:
                assert not ended
                bridge.vehicles[ROLE].hold(bridge.stamp)
                ros.spin_until(lambda: ended, 'the word')
                told = stamp_ns(bridge.stamp)
            bridge.vehicles[ROLE].answer(bridge.stamp)
        bridge.answering = True
        ros.spin_until(node.finished.done, 'the last frame')
        assert [stamp_ns(word.stamp) for word in ended] == [told]

    def test_answer_before_acknowledgement(self, ros, bridge, start):
        bridge.answering = False
        bridge.on_command = lambda _: None  # commands are heard, and not acknowledged
        start()
        ros.spin_until(lambda: bridge.steps == 1, 'a step')
        bridge.vehicles[ROLE].answer(bridge.stamp)
        ros.spin_until(
            lambda: bridge.vehicles[ROLE].newest.header.stamp == bridge.stamp, 'the command'
        )
        assert bridge.steps == 1
        bridge.say_status(running=False)
        ros.spin_until(lambda: bridge.steps == 2, 'the next step')

    def test_bridge_that_was_paused_already_says_nothing(self, ros, bridge, start):
        bridge.running = False
        node = start(max_frames=3)
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.orders == [PAUSE] + [STEP_ONCE] * 3

    def test_lost_step_is_sent_again(self, ros, bridge, start, records):
        node = start(max_frames=3, step_timeout_s=1.1)
        ros.spin_until(lambda: bridge.orders == [PAUSE], 'the pause')
        bridge.deaf = 1
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.steps == 4
        assert node.core.lockstep.counts.resent == 1
        ledger = records(node)
        assert check_ledger(ledger) == []
        assert len(ledger) == 3

    def test_step_that_ticked_is_not_sent_again(self, ros, bridge, start):
        """Its acknowledgement is given up in time, and the frame is left as unanswered."""
        bridge.answering = False
        node = start(step_timeout_s=1.1, command_timeout_s=0.1)
        ros.spin_until(lambda: bridge.steps == 2, 'the next step')
        counts = node.core.lockstep.counts
        assert (counts.resent, counts.lost_acknowledgements, counts.no_command) == (0, 1, 1)
        assert bridge.frame == 3

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
        bridge = FakeBridge(ros, ('red', 'blue')).announce()
        bridge.answering = False
        node = start(role_names=['red', 'blue'], max_frames=4)
        for n in range(1, 5):
            ros.spin_until(lambda n=n: bridge.steps == n, 'a step')
            bridge.vehicles['red'].answer(bridge.stamp)
            ros.spin_until(lambda: bridge.missing == {'blue'}, 'red has answered')
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
        before, bridge.frame = len(bridge.orders), 0
        bridge.say_status(running=True)
        spin_looks(ros, node)
        assert PAUSE not in bridge.orders[before:]  # the vehicle in the graph may be a dead one's
        bridge.tick()
        ros.spin_until(lambda: PAUSE in bridge.orders[before:], 'paused again')
        assert node.core.lockstep.counts.restarts == 1
        steps = bridge.steps
        ros.spin_until(lambda: bridge.steps > steps + 3, 'stepping again')


class TestPacing:
    @pytest.mark.usefixtures('bridge')
    def test_steps_are_due_at_absolute_times(self, ros, start):
        node = start(real_time_factor=0.5, max_frames=8)
        pacer = node.core.lockstep._pacer
        assert pacer.period_ns == 100_000_000
        assert pacer.LARGEST_LAG_STEPS * pacer.period_ns == 500_000_000
        steps = []
        stepped = pacer.stepped

        def spied(now_ns):
            due_ns = pacer.due_ns(now_ns)
            stepped(now_ns)
            steps.append((now_ns, due_ns))

        pacer.stepped = spied
        ros.spin_until(node.finished.done, 'the end')
        assert len(steps) == 8
        assert all(now_ns >= due_ns for now_ns, due_ns in steps)
        due = [due_ns for _, due_ns in steps]
        lags = [now_ns - due_ns for now_ns, due_ns in steps]
        if max(lags) < pacer.LARGEST_LAG_STEPS * pacer.period_ns:  # the machine kept up
            assert [b - a for a, b in pairwise(due)] == [pacer.period_ns] * 7

    def test_as_fast_as_possible_is_due_at_once(self, start):
        assert start().core.lockstep._pacer.due_ns(123) == 123

    def test_every_timer_is_steady(self, start):
        assert {t.clock.clock_type for t in start().timers} == {ClockType.STEADY_TIME}


class TestSignsOfLife:
    def test_no_step_while_a_sign_of_life_is_lost(self, ros, bridge, start):
        """The graph still shows the agent; its middleware has gone silent."""
        node = start()
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')
        watch = node.members.life[f'agent of {ROLE}']
        watch._alive, watch._not_alive = 0, 1
        spin_looks(ros, node)
        steps = bridge.steps
        spin_looks(ros, node)
        assert bridge.steps == steps
        assert node.core.attendance.absent == [f'agent of {ROLE}']
        watch._alive = 1
        ros.spin_until(lambda: bridge.steps >= steps + 3, 'steps again')

    def test_process_that_never_gave_one_is_judged_by_the_graph(self, ros, bridge, start):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')
        assert not any(watch.is_lost for watch in node.members.life.values())

    def test_sign_is_seen_and_missed(self, ros):
        watch = LivelinessWatch(ros.peer, '/alive')
        context = rclpy.Context()  # within one participant nobody asks for signs of life
        rclpy.init(context=context, domain_id=ros.domain_id)
        node = Node('living', context=context)
        publisher = liveliness_publisher(node, '/alive')
        ros.spin_until(lambda: watch._alive == 1, 'the sign')
        assert not watch.is_lost
        node.destroy_publisher(publisher)
        ros.spin_until(lambda: watch._alive == 0, 'its end')
        assert not watch.is_lost  # it has gone as it should: the graph tells
        node.destroy_node()
        rclpy.shutdown(context=context)


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


class TestLostWords:
    def test_frame_whose_clock_is_lost_is_in_the_ledger(self, ros, bridge, start, records):
        """Its odometry tells of it; it only takes longer."""
        bridge.clockless = {bridge.frame + 4}
        node = start(max_frames=8, command_timeout_s=0.3)
        ros.spin_until(node.finished.done, 'the end')
        ledger = records(node)
        assert check_ledger(ledger) == []
        assert [record['frame'] for record in ledger] == list(
            range(ledger[0]['frame'], ledger[0]['frame'] + 8)
        )
        assert node.core.lockstep.counts.no_clock == 1


class TestWaiting:
    def test_for_gate_and_agent(self, ros, start, diagnosed):
        bridge = FakeBridge(ros)
        node = start()
        ros.spin_until(lambda: bridge.orders == [PAUSE], 'the pause')
        spin_looks(ros, node)
        assert bridge.steps == 0
        text = 'no step while these are silent or not there: '
        diagnosed.wait('synchronizer', text, DiagnosticStatus.WARN)
        bridge.vehicles[ROLE].announce_gate(ros)
        spin_looks(ros, node)
        assert bridge.steps == 0
        bridge.vehicles[ROLE].announce_agent(ros)
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')

    def test_agent_may_be_left_out(self, ros, start):
        bridge = FakeBridge(ros)
        start(wait_for_agent=False)
        bridge.vehicles[ROLE].announce_gate(ros)
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')

    def test_every_role_needs_its_agent(self, ros, start):
        bridge = FakeBridge(ros, ('red', 'blue'))
        node = start(role_names=['red', 'blue'])
        for vehicle in bridge.vehicles.values():
            vehicle.announce_gate(ros)
        bridge.vehicles['red'].announce_agent(ros)
        ros.spin_until(lambda: bridge.orders == [PAUSE], 'the pause')
        spin_looks(ros, node)
        assert bridge.steps == 0
        bridge.vehicles['blue'].announce_agent(ros)
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')

    def test_stepping_pauses_while_the_agent_is_away(self, ros, bridge, start, records):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 3, 'steps')
        vehicle = bridge.vehicles[ROLE]
        ros.peer.destroy_publisher(vehicle.agent_pub)
        vehicle.agent_pub = None
        ros.spin_until(lambda: node.core.attendance.absent, 'seen to be away')
        spin_looks(ros, node)
        steps = bridge.steps
        spin_looks(ros, node)
        assert bridge.steps == steps
        vehicle.announce_agent(ros)
        ros.spin_until(lambda: bridge.steps >= steps + 3, 'steps again')
        assert check_ledger(records(node)) == []

    def test_for_a_bridge_that_starts_last(self, ros, start):
        node = start(max_frames=3)
        spin_looks(ros, node)
        bridge = FakeBridge(ros).announce()
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.orders == [PAUSE] + [STEP_ONCE] * 3

    def test_odometry_may_have_another_topic(self, ros, start, records):
        bridge = FakeBridge(ros, spawned=False)
        node = start(max_frames=3, odometry_topic='/odom')
        bridge.spawn(odometry='/odom')
        bridge.announce()
        ros.spin_until(node.finished.done, 'the end')
        assert [record['speed_mps'] for record in records(node)] == [3.0] * 3

    def test_one_odometry_topic_is_not_that_of_two_vehicles(self, start):
        with pytest.raises(ParameterError, match=r"odometry_topic must be empty .* got '/odom'"):
            start(role_names=['red', 'blue'], odometry_topic='/odom')

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
        bridge.say_status(running=True)
        spin_looks(ros, node)
        assert not bridge.orders
        bridge.spawn()
        bridge.announce()
        ros.spin_until(node.finished.done, 'the end')
        assert bridge.orders == [PAUSE] + [STEP_ONCE] * 3


class TestViolations:
    def test_doubled_command(self, ros, bridge, start, records, diagnosed):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 5, 'steps')
        bridge.vehicles[ROLE].answer(bridge.stamp)
        diagnosed.wait('synchronizer', 'lockstep violations', DiagnosticStatus.ERROR)
        assert node.core.ledger.logs[ROLE].counts.doubled == 1
        (fault,) = check_ledger(records(node))
        assert fault.endswith('2 commands')

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
        ros.spin_until(lambda: node.core.ledger.logs[ROLE].counts.slipped, 'slipped')
        (fault,) = check_ledger(records(node))
        assert 'applied' in fault
        assert '0.75' in fault
        assert node.core.ledger.logs[ROLE].counts.violations == 1
        assert node.exit_status == 1

    def test_skipped_frames_have_their_place_in_the_ledger(self, ros, bridge, start, records):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 5, 'steps')
        bridge.ticks = 3
        ros.spin_until(lambda: bridge.frame >= 9, 'a step that was three')
        bridge.ticks = 1
        steps = bridge.steps
        ros.spin_until(lambda: bridge.steps >= steps + 8, 'more steps')
        ledger = records(node)
        frames = [record['frame'] for record in ledger]
        assert frames == list(range(2, 2 + len(frames)))
        assert node.core.ledger.logs[ROLE].counts.skipped >= 1
        assert any('skipped' in fault for fault in check_ledger(ledger))

    def test_frame_whose_clock_was_lost_keeps_its_place(self, ros, bridge, start, records):
        bridge.clockless = {6}
        node = start(max_frames=12, command_timeout_s=0.3)
        ros.spin_until(node.finished.done, 'the end')
        ledger = records(node)
        assert [record['frame'] for record in ledger] == list(range(2, 14))
        stamps = [record['stamp_ns'] for record in ledger if 'stamp_ns' in record]
        assert len(set(stamps)) == len(stamps)  # none lent to another frame
        assert node.core.ledger.logs[ROLE].counts.slipped == 0

    @pytest.mark.usefixtures('bridge')
    def test_clean_run_is_silent(self, ros, start, diagnosed):
        node = start(max_frames=30)
        ros.spin_until(node.finished.done, 'the end')
        assert node.core.ledger.logs[ROLE].counts.violations == 0
        assert node.exit_status == 0
        assert not diagnosed('synchronizer') or (
            diagnosed('synchronizer').level != DiagnosticStatus.ERROR
        )


class TestTakenBack:
    def test_bridge_that_plays_is_paused_and_it_is_told(
        self, ros, bridge, start, diagnosed, tmp_path
    ):
        node = start()
        ros.spin_until(lambda: bridge.steps >= 5, 'steps')
        orders = len(bridge.orders)
        while PAUSE not in bridge.orders[orders:]:  # as fast as possible, whoever has said PLAY
            bridge.tick()
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
        assert audit.findings['chain'].holds
        assert audit.events[0]['event'] == 'free_running'
        assert 'frames without a step' in audit.findings['events'].note

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
        log = node.core.ledger.logs[ROLE]
        part = stamp_ns(bridge.stamp)
        ros.spin_until(
            lambda: {'collision', 'lane_invasion'} <= set(log._parts.get(part, ())), 'events'
        )
        bridge.answering = True
        vehicle.answer(bridge.stamp)
        ros.spin_until(node.finished.done, 'the end')
        first, second = records(node)
        assert (first['collision'], first['lane_invasion']) == (207, [1, 2])
        assert 'collision' not in second

    @pytest.mark.usefixtures('bridge')
    def test_latencies_are_in_order(self, ros, start, records):
        node = start(max_frames=5)
        ros.spin_until(node.finished.done, 'the end')
        for record in records(node):
            assert record['step_sent_ns'] <= record['command_heard_ns']
            assert record['step_sent_ns'] <= record['acknowledged_ns'] <= record['frame_closed_ns']

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

    def test_impossible_messages_are_refused_and_survived(self, ros, bridge, start, records):
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
        ros.spin_until(lambda: node.wiring.rejections.count == 4, 'all four refused')
        steps = bridge.steps
        ros.spin_until(lambda: bridge.steps >= steps + 8, 'more steps')
        assert check_ledger(records(node)) == []

    @pytest.mark.usefixtures('bridge')
    def test_without_a_ledger(self, ros, start):
        node = start(ledger_path='', max_frames=5)
        ros.spin_until(node.finished.done, 'the end')
        assert node.core.ledger.logs[ROLE].counts.frames >= 1

    def test_ledger_is_whole_when_the_run_is_cut_short(self, ros, bridge, start, records):
        node = start(ledger_flush_frames=100000)
        ros.spin_until(lambda: bridge.steps >= 10, 'steps')
        ledger = records(node)
        assert len(ledger) >= 9
        assert check_ledger(ledger) == []

    def test_ledger_is_flushed_while_it_runs(self, ros, bridge, start, tmp_path):
        start(ledger_flush_frames=UNWRITTEN_FRAMES + 1)
        ros.spin_until(lambda: bridge.steps >= 12, 'steps')
        assert len(list(read_ledger(tmp_path / 'ledger.jsonl'))) >= 5

    @pytest.mark.parametrize('most_lost', [UNWRITTEN_FRAMES + 1, UNWRITTEN_FRAMES + 3])
    def test_a_kill_loses_no_more_than_it_may(self, ros, bridge, start, tmp_path, most_lost):
        """The worst moment: the step of the next frame is out, the line not yet written."""
        node = start(ledger_flush_frames=most_lost)
        close_ended, ended, lost = node.core.ledger.close_ended, [], []

        def looked_at(found, facts):
            if not found:
                return
            ended.append(node.core.lockstep.frame)
            on_disk = [record['frame'] for record in read_ledger(tmp_path / 'ledger.jsonl')]
            lost.append(ended[-1] + 1 - max(on_disk, default=ended[0] - 1))
            close_ended(found, facts)

        node.core.ledger.close_ended = looked_at
        ros.spin_until(lambda: bridge.steps >= 20, 'steps')
        assert max(lost) == most_lost
