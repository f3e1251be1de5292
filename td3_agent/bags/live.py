# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Plays a bag to a running agent: publishes what the bridge published, and hears the answers.

Messages go out at the intervals of their arrival, divided by the rate; but never so far ahead of
the agent that a frame could be pushed out of its queue. Recorded messages of agent, gate and
synchronizer are not published: the running agent publishes its own.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
import rclpy
from rclpy.node import Node
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from tqdm import tqdm

from td3_agent.bags.bag import is_latched
from td3_agent.bags.inputs import (
    COMPRESSED,
    IMAGE,
    ODOMETRY,
    REPORT,
    Input,
    begin_ns,
    read_input,
)
from td3_agent.bags.offline import RecordedFacts, Replay, recorded_facts
from td3_agent.bags.record import message_class
from td3_agent.bags.storage import BagError
from td3_agent.driving.loop_check import Contract
from td3_agent.driving.responder import FramePairer
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import fields_from_report, stamp_ns, time_from_ns
from td3_agent.nodes.runtime import LATCHED, RELIABLE, REPORTS, make_executor, own_context
from td3_agent.processes import ProcessGroup, interruptions_noted, ros_environment
from td3_agent.ros_domain import domain_id_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rclpy.publisher import Publisher

    from td3_agent.bags.bag import Bag, Contents
    from td3_agent.bags.inputs import Inputs
    from td3_agent.bags.storage import RawMessage, RawTopic

# Names below /carla/<role_name> that are responses, not input.
RESPONSES = ('twist', 'twist_stamped', 'agent/frame_report', 'gate/frame_report')
CONTROLS = ('vehicle_control_cmd', 'vehicle_control_cmd_manual')
OF_THE_BRIDGE = ('/clock', topics.STATUS, topics.WORLD_INFO, '/tf', '/tf_static')
CLOCK = '/clock'
MOST_AHEAD = 3  # frames without a response; the agent's queue holds five images
ANSWER_PATIENCE_S = 1.0
AGENT_PATIENCE_S = 60.0
LOOK_S = 0.05
LOOKS_IN_A_ROW = 6
STAMPED = {IMAGE, COMPRESSED, ODOMETRY}


@dataclass(frozen=True, kw_only=True)
class LiveParams:
    """How to play a bag.

    Raises:
        BagError: a value is out of range.
    """

    rate: float = 1.0  # recorded time per wall time, > 0
    loop: bool = False  # repeat until asked to stop
    start_offset_s: float = 0.0  # leave out this much of the start; latched messages still come

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1000.0:
            raise BagError(f'--rate must be in (0, 1000], got {self.rate}')


@dataclass
class _Frames:
    """Published frames, and those without a response."""

    pairer: FramePairer = field(default_factory=FramePairer)
    complete: set[int] = field(default_factory=set)
    open: list[int] = field(default_factory=list)

    def sent(self, stamp: int, *, is_image: bool) -> None:
        """Note one half of a frame."""
        add = self.pairer.add_image if is_image else self.pairer.add_motion
        if add(stamp, stamp) is not None:
            self.complete.add(stamp)
            self.open.append(stamp)

    def answered(self, stamp: int) -> None:
        """Note a response, after which none to an older frame is expected."""
        if stamp in self.open:
            del self.open[: self.open.index(stamp) + 1]


class PlayerNode(Node):
    """Plays one bag from a separate thread; the executor receives the responses."""

    def __init__(
        self,
        bag: Bag,
        contents: Contents,
        inputs: Inputs,
        params: LiveParams,
        **kwargs: Any,  # noqa: ANN401  what Node takes
    ) -> None:
        """Create the publishers; :meth:`play` starts.

        Raises:
            BagError: a type of the bag is not installed, or the offset is beyond its end.
        """
        super().__init__('bag_player', start_parameter_services=False, **kwargs)
        self.replay = Replay('live')
        self.replay.torn = contents.torn
        self.unknown_frames = 0
        self.rounds = 0
        self.error = ''
        self.finished = Future()
        self._bag, self._contents, self._inputs, self._params = bag, contents, inputs, params
        self._begin_ns = begin_ns(contents, params.start_offset_s)
        self._recorded = RecordedFacts()
        self._frames = _Frames()
        self._change = threading.Condition()
        self._stopping = False
        self._image_topic = inputs.image.removesuffix('/compressed')
        self._wanted = {name for name in contents.topics if is_played(name, inputs.role_name)}
        self._publishers_by_topic = {
            name: self._offer(contents.topics[name]) for name in self._wanted
        }
        if CLOCK not in self._publishers_by_topic:
            self._publishers_by_topic[CLOCK] = self.create_publisher(Clock, CLOCK, RELIABLE)
        role = inputs.role_name
        self._reports = self.create_subscription(
            DiagnosticArray, topics.agent_report(role), self._on_report, REPORTS
        )
        self.create_subscription(
            TwistStamped, topics.twist_stamped(role), lambda _: None, RELIABLE
        )
        self._thread = threading.Thread(target=self._run, name='bag player', daemon=True)

    def play(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._change:
            self._stopping = True
            self._change.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _offer(self, topic: RawTopic) -> Publisher:
        if topic.name == self._inputs.image:
            return self.create_publisher(Image, self._image_topic, RELIABLE)
        known = topic.name in {self._inputs.info, self._inputs.path}
        qos = LATCHED if known or is_latched(topic) else RELIABLE
        return self.create_publisher(message_class(topic.msgtype), topic.name, qos)

    # The playing thread

    def _run(self) -> None:
        """Play until the end, or until asked to stop."""
        start_s = time.monotonic()
        try:
            self._latched_first()
            self._wait_for_agent()
            start_s = time.monotonic()
            while not self._stopping:
                self._play_once()
                self._wait_until(lambda: not self._frames.open, ANSWER_PATIENCE_S)
                self.rounds += 1
                if not self._params.loop:
                    break
        except (ValueError, OSError) as error:
            self.error = str(error)
        self.replay.wall_s = time.monotonic() - start_s
        if not self.finished.done():
            self.finished.set_result(None)

    def _latched_first(self) -> None:
        """Publish the latched messages of the start of the bag, or of its played part."""
        names = {
            name
            for name in self._wanted
            if name in {self._inputs.info, self._inputs.path}
            or is_latched(self._contents.topics[name])
        }
        last: dict[str, RawMessage] = {}
        for message in self._bag.messages(names) if names else ():
            if message.topic.name not in last or message.received_ns <= self._begin_ns:
                last[message.topic.name] = message
        for message in last.values():
            self._publishers_by_topic[message.topic.name].publish(bytes(message.data))

    def _wait_for_agent(self) -> None:
        """Wait until an agent is ready; BagError if none is in time."""
        deadline_s = time.monotonic() + AGENT_PATIENCE_S
        looks = 0
        while looks < LOOKS_IN_A_ROW and not self._stopping:
            looks = looks + 1 if self.count_publishers(self._reports.topic_name) else 0
            if time.monotonic() > deadline_s:
                raise BagError(
                    f'no agent is ready: {self._reports.topic_name} has no publisher '
                    f'after {AGENT_PATIENCE_S:.0f} s; use --start-agent or start one'
                )
            self._wait_until(lambda: False, LOOK_S)

    def _play_once(self) -> None:
        """Publish the bag from its beginning to its end."""
        start_s = time.monotonic()
        for message in self._bag.messages(self._wanted | self._inputs.names):
            if message.received_ns < self._begin_ns:
                continue
            due_s = start_s + (message.received_ns - self._begin_ns) / 1e9 / self._params.rate
            self._wait_until(lambda: False, due_s - time.monotonic())
            start_s += self._wait_for_responses()
            if self._stopping:
                return
            self._send(message)

    def _wait_for_responses(self) -> float:
        """Wait while too many frames have no response; return how long [s]."""
        if len(self._frames.open) < MOST_AHEAD:
            return 0.0
        start_s = time.monotonic()
        if not self._wait_until(lambda: len(self._frames.open) < MOST_AHEAD, ANSWER_PATIENCE_S):
            with self._change:
                self._frames.open.clear()  # the agent skipped them
        return time.monotonic() - start_s

    def _send(self, message: RawMessage) -> None:
        """Publish one message, or keep the recorded report of a frame."""
        name = message.topic.name
        if message.topic.msgtype in {*STAMPED, REPORT} and name in self._inputs.names:
            try:
                read = read_input(message, self._inputs)
                self._send_input(read, message)
            except BagError:
                raise
            except (ValueError, RecursionError) as error:
                self.replay.reject(name, error)
        elif name in self._publishers_by_topic and self._is_of_its_type(message):
            self._publishers_by_topic[name].publish(bytes(message.data))

    def _is_of_its_type(self, message: RawMessage) -> bool:
        """Whether a message has the type of the first message of its topic."""
        return message.topic.msgtype == self._contents.topics[message.topic.name].msgtype

    def _send_input(self, read: Input, message: RawMessage) -> None:
        """Publish one half of a frame."""
        if read.topic == self._inputs.report:
            with self._change:
                self._recorded.add(read.stamp_ns, recorded_facts(fields_from_report(read.content)))
            return
        with self._change:  # before publishing: the response may come at once
            self._frames.sent(read.stamp_ns, is_image=read.topic == self._inputs.image)
        if self.rounds == 0:
            self.replay.note_stamp(read, self._inputs)
        if CLOCK not in self._contents.topics:
            self._publishers_by_topic[CLOCK].publish(Clock(clock=time_from_ns(read.stamp_ns)))
        publisher = self._publishers_by_topic[read.topic]
        if message.topic.msgtype == COMPRESSED:
            publisher.publish(raw_image(read, self._inputs.role_name))
        else:
            publisher.publish(bytes(message.data))

    def _wait_until(self, condition: Any, patience_s: float) -> bool:  # noqa: ANN401
        """Wait for a condition or for :meth:`close`; return whether the condition holds."""
        if patience_s <= 0.0:
            return bool(condition())
        with self._change:
            self._change.wait_for(lambda: self._stopping or condition(), patience_s)
            return bool(condition())

    # The executor

    def _on_report(self, msg: DiagnosticArray) -> None:
        stamp, facts = stamp_ns(msg.header.stamp), fields_from_report(msg)
        with self._change:
            self.unknown_frames += stamp not in self._frames.complete
            self._frames.answered(stamp)
            record = self.replay.add(stamp, self._inputs.role_name, facts)
            record['published_twist'] = record.get('twist')
            self._recorded.frame(record)
            self._change.notify_all()


def is_played(topic: str, role_name: str) -> bool:
    """Whether to publish a topic of a bag: those of the bridge are."""
    if topic in OF_THE_BRIDGE:
        return True
    prefix = topics.of(role_name, '')
    return topic.startswith(prefix) and topic.removeprefix(prefix) not in RESPONSES + CONTROLS


def raw_image(read: Input, role_name: str) -> Image:
    view = read.content
    msg = Image(height=view.height, width=view.width, encoding=view.encoding, step=view.step)
    msg.header.stamp = time_from_ns(read.stamp_ns)
    msg.header.frame_id = f'{role_name}/camera'
    msg.data = bytes(view.data)
    return msg


def play(node: PlayerNode) -> Iterator[None]:
    """Spin the node until the end of the bag; yield several times a second."""
    executor = make_executor(node.context)
    executor.add_node(node)
    node.play()
    try:
        while not node.finished.done():
            executor.spin_until_future_complete(node.finished, timeout_sec=0.2)
            yield
    finally:
        node.close()
        executor.remove_node(node)
        executor.shutdown(timeout_sec=1.0)


def run_live(args: argparse.Namespace, bag: Bag, contents: Contents, inputs: Inputs) -> Replay:
    """Play the bag to the agent of this ROS domain; Ctrl-C ends it with the results so far.

    Raises:
        BagError: no agent is ready, it ended, or the bag is damaged.
        KeyboardInterrupt: Ctrl-C before the first response.
    """
    params = LiveParams(rate=args.rate, loop=args.loop, start_offset_s=args.start_offset)
    environment = ros_environment(domain_id_of(os.environ))
    os.environ.update(environment)
    with ExitStack() as stack:
        interruption = stack.enter_context(interruptions_noted())
        group = stack.enter_context(ProcessGroup(args.out, environment))
        if args.start_agent:
            group.start('td3_agent_node', agent_parameters(args, inputs))
        context = own_context(None)
        stack.callback(rclpy.shutdown, context=context)
        node = PlayerNode(bag, contents, inputs, params, context=context)
        stack.callback(node.destroy_node)
        total = None if params.loop else contents.counts[inputs.image]
        progress = stack.enter_context(
            tqdm(total=total, unit='frame', desc='playing', disable=None)
        )
        for _ in play(node):
            progress.update(len(node.replay.records) - progress.n)
            if dead := group.ended_early():
                raise BagError(f'the agent ended: {dead.last_output()}')
            if interruption.happened:
                break
        if not node.replay.records:
            interruption.check()
    if node.error:
        raise BagError(node.error)
    node.replay.judge(inputs, Contract(), None)  # the agent reports its own contract
    node.replay.pairing = {
        'answered': len(node.replay.records),
        'answered_without_frame': node.unknown_frames,
        'rounds': node.rounds,
    }
    return node.replay


def agent_parameters(args: argparse.Namespace, inputs: Inputs) -> dict[str, object]:
    """Return the parameters of an agent that responds to every frame of the bag."""
    policy = (args.policy or ['lane'])[0]
    driver = {'driver': policy} if policy == 'pure_pursuit' else {'policy': policy}
    return {
        **driver,
        'role_name': inputs.role_name,
        'image_topic': inputs.image.removesuffix('/compressed'),
        'odometry_topic': inputs.odometry,
        'twist_convention': args.twist_convention,
        'mode': 'lockstep',
    }
