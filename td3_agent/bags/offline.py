# SPDX-License-Identifier: Apache-2.0
"""Feeds a bag to the agent without ROS: the same conversions, pairing, observation and driver."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from td3_agent.bags.inputs import StampOrder, begin_ns, latched_first, read_input
from td3_agent.bags.storage import BagError
from td3_agent.driving.agent import Agent, TwistEncoder, action_sha256
from td3_agent.driving.answering import FrameAnswerer
from td3_agent.driving.command import TwistConvention
from td3_agent.driving.ledger import NO_COMMAND
from td3_agent.driving.loop_check import replay_findings
from td3_agent.nodes.conversions import (
    announced_route,
    facts_from_report,
    geometry_from_info,
    state_from_odometry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.bags.bag import Bag, Contents
    from td3_agent.bags.inputs import Input, Inputs
    from td3_agent.driving.answering import FrameCommand
    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.loop_check import CameraView, Contract
    from td3_agent.nodes.drivers import Equipment

DEFAULT_WHEELBASE_M = 2.87
MAX_FRAME_AGE_NS = 500_000_000  # of no consequence: every frame is answered as it comes
PARTS_KEPT = 64
OK = 'ok'
LARGEST = 1e6  # of any number of a command


@dataclass
class Replay:
    """What a driver made of a bag."""

    title: str  # of the driver
    # One per frame: what the agent did, and under ``recorded`` what it had done.
    records: list[dict[str, Any]] = field(default_factory=list)
    # Messages that could not be used, by topic: how many, and the first reason.
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    pairing: dict[str, int] = field(default_factory=dict)  # what became of the halves of frames
    wall_s: float = 0.0  # how long it took
    torn: list[str] = field(default_factory=list)  # where files are cut off or damaged
    images_ns: list[int] = field(default_factory=list)  # stamps, in the order of the bag
    motions_ns: list[int] = field(default_factory=list)  # stamps of the odometry
    findings: list[Finding] = field(default_factory=list)  # what is wrong with bag and replay

    def refuse(self, topic: str, error: Exception) -> None:
        """Count a message that cannot be used."""
        number, reason = self.refused.get(topic, (0, str(error)))
        self.refused[topic] = (number + 1, reason)

    def note_stamp(self, message: Input, inputs: Inputs) -> None:
        """Keep the stamp of half a frame."""
        if message.topic == inputs.image:
            self.images_ns.append(message.stamp_ns)
        elif message.topic == inputs.odometry:
            self.motions_ns.append(message.stamp_ns)

    def add(self, stamp_ns: int, role_name: str, facts: dict[str, Any]) -> dict[str, Any]:
        """Add the record of a frame and return it.

        Args:
            stamp_ns: of the frame [ns].
            role_name: of the vehicle.
            facts: of the agent's report on it, and of the vehicle.
        """
        record = {
            'frame': len(self.records),
            'stamp_ns': stamp_ns,
            'role_name': role_name,
            'outcome': OK if 'action' in facts else NO_COMMAND,
            'commands': 1,
            'sent': None,
            'applied': None,
            **{name: value for name, value in facts.items() if not name.endswith('_ns')},
        }
        self.records.append(record)
        return record

    def judge(self, inputs: Inputs, contract: Contract, camera: CameraView | None) -> None:
        """Find what is wrong, once everything was played."""
        self.findings = replay_findings(
            self.images_ns,
            self.motions_ns,
            [record['stamp_ns'] for record in self.records if 'action' in record],
            refused=self.refused.get(inputs.image, (0, ''))[0],
            contract=contract,
            camera=camera,
        )


def replay_offline(  # noqa: PLR0913  what is replayed, by what, and how
    bag: Bag,
    contents: Contents,
    inputs: Inputs,
    equipment: Equipment,
    convention: str = TwistConvention.VELOCITY.value,
    start_offset_s: float = 0.0,
) -> Replay:
    """Return what the driver makes of the bag, as fast as the machine allows.

    Args:
        bag: to be read.
        contents: of it.
        inputs: its topics.
        equipment: the driver.
        convention: how its Twist is meant.
        start_offset_s: begin this long after the first message [s]; route and vehicle_info of
            before still come.

    Raises:
        BagError: the bag is damaged, or lacks what the driver needs.
    """
    if equipment.needs_route and not contents.counts[inputs.path]:
        raise BagError(f'{equipment.title} needs {inputs.path}, which is not in the bag')
    player = _Player(inputs, equipment, convention)
    begin = begin_ns(contents, start_offset_s)
    start_s = time.monotonic()
    total = contents.counts[inputs.image]
    with tqdm(total=total, unit='frame', desc=equipment.title, disable=None) as progress:
        for message in player.in_order(bag, begin):
            player.take(message)
            if message.topic == inputs.image:
                progress.update()
    player.replay.pairing = asdict(player.answerer.counts)
    player.replay.wall_s = time.monotonic() - start_s
    player.replay.torn = contents.torn
    watch = player.answerer.watch
    player.replay.judge(inputs, watch.contract, watch.camera)
    return player.replay


class _Player:
    """The agent of one vehicle, with its inputs read from a bag."""

    def __init__(self, inputs: Inputs, equipment: Equipment, convention: str) -> None:
        self._inputs = inputs
        self.replay = Replay(equipment.title)
        self.answerer = FrameAnswerer(
            Agent(equipment.driver, equipment.spec),
            TwistEncoder(TwistConvention(convention)),
            lockstep=True,
            max_frame_age_ns=MAX_FRAME_AGE_NS,
            contract=equipment.contract,
        )
        self._recorded = RecordedFacts()
        self._motions: dict[int, dict[str, Any]] = {}
        self._handlers = {
            inputs.image: self._on_image,
            inputs.odometry: self._on_odometry,
            inputs.info: self._on_info,
            inputs.path: self._on_path,
            inputs.report: self._on_report,
            inputs.twist: self._on_twist,
            inputs.lens: self._on_lens,
        }

    def in_order(self, bag: Bag, begin_ns: int) -> Iterator[Input]:
        """Yield the inputs by their stamps; what cannot be used is counted."""
        order, latched = StampOrder(), {self._inputs.info, self._inputs.path}
        for raw in latched_first(bag.messages(self._inputs.names), self._inputs):
            if raw.received_ns < begin_ns and raw.topic.name not in latched:
                continue
            try:
                message = read_input(raw, self._inputs)
            except BagError:
                raise
            except ValueError as error:
                self.replay.refuse(raw.topic.name, error)
                continue
            self.replay.note_stamp(message, self._inputs)
            yield from order.add(message)
        yield from order.rest()

    def take(self, message: Input) -> None:
        """Give one message to the agent."""
        try:
            command = self._handlers[message.topic](message)
        except (ValueError, RecursionError) as error:
            self.replay.refuse(message.topic, error)
            return
        if command is not None:
            self._note(command)

    def _on_image(self, message: Input) -> FrameCommand | None:
        return self.answerer.on_image(message.stamp_ns, message.content, message.received_ns)

    def _on_odometry(self, message: Input) -> FrameCommand | None:
        state = state_from_odometry(message.content)
        motion = asdict(state)
        self._motions[motion.pop('stamp_ns')] = motion
        if len(self._motions) > PARTS_KEPT:
            del self._motions[next(iter(self._motions))]
        return self.answerer.on_motion(state, message.received_ns)

    def _on_info(self, message: Input) -> FrameCommand | None:
        return self.answerer.on_geometry(geometry_from_info(message.content, DEFAULT_WHEELBASE_M))

    def _on_lens(self, message: Input) -> None:
        info = message.content
        self.answerer.watch.on_camera_info(info.width, info.height, float(info.k[0]))

    def _on_path(self, message: Input) -> None:
        self.answerer.set_route(announced_route(message.content))

    def _on_report(self, message: Input) -> None:
        facts = facts_from_report(message.content)
        self._recorded.add(message.stamp_ns, recorded_facts(facts))

    def _on_twist(self, message: Input) -> None:
        twist = message.content.twist
        about = {'twist': [twist.linear.x, twist.angular.z]}
        self._recorded.add(message.stamp_ns, about, first=True)

    def _note(self, command: FrameCommand) -> None:
        """Enter one frame."""
        facts = command.facts() if command.facts is not None else {}
        facts = self._motions.pop(command.stamp_ns, {}) | facts
        record = self.replay.add(command.stamp_ns, self._inputs.role_name, facts)
        record['published_twist'] = [command.twist.linear_x, command.twist.angular_z]
        self._recorded.frame(record)


class RecordedFacts:
    """Joins what was recorded of a frame with its record; either may come first."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._early: dict[int, dict[str, Any]] = {}
        self._records: dict[int, dict[str, Any]] = {}
        self._last_ns = -1

    def frame(self, record: dict[str, Any]) -> None:
        """Take the record of a frame; ``recorded`` is added to it."""
        stamp = record['stamp_ns']
        if stamp <= self._last_ns:  # a new drive
            self._records.clear()
        self._last_ns = stamp
        record['recorded'] = self._early.pop(stamp, {})
        self._records[stamp] = record
        if len(self._records) > PARTS_KEPT:
            del self._records[next(iter(self._records))]

    def add(self, stamp_ns: int, facts: dict[str, Any], *, first: bool = False) -> None:
        """Take facts of the frame ``stamp_ns`` [ns].

        Args:
            stamp_ns: of the frame [ns].
            facts: to be added.
            first: what is known already stays: the last word of an agent repeats a stamp.
        """
        record = self._records.get(stamp_ns)
        known = self._early.setdefault(stamp_ns, {}) if record is None else record['recorded']
        known.update(facts | known if first else facts)
        if len(self._early) > PARTS_KEPT:
            del self._early[next(iter(self._early))]


def recorded_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what replay compares of an agent's report.

    Raises:
        ValueError: a field is something else than it must be.
    """
    found: dict[str, Any] = {}
    if 'observation_sha256' in facts:
        found['observation_sha256'] = str(facts['observation_sha256'])[:64]
    for name in ('action', 'twist'):
        if name in facts:
            found[name] = _two_numbers(name, facts[name])
    if 'action' in found:
        found['action_sha256'] = action_sha256(np.array(found['action']))
    return found


def _two_numbers(name: str, value: Any) -> list[float]:  # noqa: ANN401  a value of JSON
    """Return a value that must be two numbers of the size that commands have."""
    if isinstance(value, list) and len(value) == 2:
        numbers = [v for v in value if isinstance(v, (int, float)) and abs(v) <= LARGEST]
        if len(numbers) == 2:
            return [float(v) for v in numbers]
    raise ValueError(f'{name} must be two numbers, got {str(value)[:60]}')
