# Copyright 2026 td3_agent authors
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
from td3_agent.driving.command import TwistConvention, VehicleControl
from td3_agent.driving.input_watch import InputWatch
from td3_agent.driving.ledger import NO_COMMAND
from td3_agent.driving.loop import Frame, WorldEndError, drive
from td3_agent.driving.loop_check import Contract, replay_findings
from td3_agent.driving.responder import FramePairer, ImageCheck
from td3_agent.driving.task import STEP_S
from td3_agent.driving.vehicle import DEFAULT_WHEELBASE_M
from td3_agent.driving.velocity_control import TwistConverter
from td3_agent.nodes.conversions import (
    announced_route,
    fields_from_report,
    geometry_from_info,
    state_from_odometry,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from td3_agent.bags.bag import Bag, Contents
    from td3_agent.bags.inputs import Input, Inputs
    from td3_agent.bags.storage import RawMessage
    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.loop import Step
    from td3_agent.driving.loop_check import CameraView
    from td3_agent.driving.observation import ImageView
    from td3_agent.driving.responder import Pair, PairingCounts
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState
    from td3_agent.nodes.drivers import LoadedDriver

PARTS_KEPT = 64
OK = 'ok'
LARGEST = 1e6  # of any number of a command


@dataclass
class Replay:
    """A driver's actions on a bag, and the faults of the bag."""

    title: str  # of the driver
    # One per frame: the agent's response, and under ``recorded`` the recorded one.
    records: list[dict[str, Any]] = field(default_factory=list)
    # Rejected messages by topic: how many, and the first reason.
    rejected: dict[str, tuple[int, str]] = field(default_factory=dict)
    pairing: dict[str, int] = field(default_factory=dict)  # counts of halves of frames
    wall_s: float = 0.0  # duration
    torn: list[str] = field(default_factory=list)  # where files are cut off or damaged
    images_ns: list[int] = field(default_factory=list)  # stamps, in the order of the bag
    motions_ns: list[int] = field(default_factory=list)  # stamps of the odometry
    findings: list[Finding] = field(default_factory=list)  # faults of bag and replay

    def reject(self, topic: str, error: Exception) -> None:
        number, reason = self.rejected.get(topic, (0, str(error)))
        self.rejected[topic] = (number + 1, reason)

    def note_stamp(self, message: Input, inputs: Inputs) -> None:
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
        """Find faults, after the whole bag."""
        self.findings = replay_findings(
            self.images_ns,
            self.motions_ns,
            [record['stamp_ns'] for record in self.records if 'action' in record],
            rejected=self.rejected.get(inputs.image, (0, ''))[0],
            contract=contract,
            camera=camera,
        )


def replay_offline(  # noqa: PLR0913  what is replayed, by what, and how
    bag: Bag,
    contents: Contents,
    inputs: Inputs,
    loaded: LoadedDriver,
    convention: str = TwistConvention.VELOCITY.value,
    start_offset_s: float = 0.0,
) -> Replay:
    """Run a driver on every frame of a bag, as fast as the machine allows.

    Args:
        bag: to be read.
        contents: of the bag.
        inputs: topics of the vehicle.
        loaded: the driver.
        convention: meaning of its Twist.
        start_offset_s: leave out this much of the start [s], but for route and vehicle_info.

    Raises:
        BagError: the bag is damaged, or lacks what the driver needs.
    """
    encoder = TwistEncoder(TwistConvention(convention))
    for name, is_needed in (
        (inputs.path, loaded.needs_route),
        (inputs.info, encoder.needs_geometry),
    ):
        if is_needed and not contents.counts[name]:
            raise BagError(f'{loaded.title} needs {name}, which is not in the bag')
    replay = Replay(loaded.title)
    world = BagWorld(
        lambda: bag.messages(inputs.names),
        inputs,
        replay,
        begin_ns=begin_ns(contents, start_offset_s),
        images=ImageCheck(loaded.contract),
        needs_route=loaded.needs_route,
        needs_geometry=encoder.needs_geometry,
    )
    start_s = time.monotonic()
    total = contents.counts[inputs.image]
    agent, converter = Agent(loaded.driver, loaded.spec), TwistConverter(encoder.convention)
    with tqdm(total=total, unit='frame', desc=loaded.title, disable=None) as progress:
        for step in drive(world, agent, converter):
            if step.frame.is_fresh:
                encoder.reset()
            note_step(replay, step, encoder, world)
            progress.update()
    replay.pairing = asdict(world.counts)
    replay.wall_s = time.monotonic() - start_s
    replay.torn = contents.torn
    replay.judge(inputs, loaded.contract, world.watch.camera)
    return replay


def note_step(replay: Replay, step: Step, encoder: TwistEncoder, world: BagWorld) -> None:
    frame, response = step.frame, step.response
    twist = encoder.encode(response.twist, frame.state, frame.geometry)
    motion = asdict(frame.state)
    stamp_ns = motion.pop('stamp_ns')
    record = replay.add(stamp_ns, world.inputs.role_name, motion | response.record())
    record['published_twist'] = [twist.linear_x, twist.angular_z]
    world.recorded.frame(record)


class BagWorld:
    """A recorded vehicle as a world (:mod:`~.driving.loop`); commands have no effect.

    A frame is complete with image and odometry. Frames are skipped until the driver has all its
    inputs, and while its route is withdrawn.

    Args:
        messages: returns an iterator over the messages of the inputs.
        inputs: topics of the vehicle.
        replay: receives stamps and rejected messages.
        begin_ns: skip messages received before, but for route and vehicle_info [ns].
        images: rejects images of another size within a drive.
        needs_route: skip frames without a route.
        needs_geometry: skip frames without vehicle_info.

    Attributes:
        inputs: topics of the vehicle.
        route: of the vehicle; None without one.
        recorded: recorded reports and Twists of the frames.
        watch: size and field of view of the camera.
    """

    step_s = STEP_S
    contract = None

    def __init__(  # noqa: PLR0913  bag and needs of the driver
        self,
        messages: Callable[[], Iterable[RawMessage]],
        inputs: Inputs,
        replay: Replay,
        *,
        begin_ns: int = 0,
        images: ImageCheck | None = None,
        needs_route: bool = False,
        needs_geometry: bool = False,
    ) -> None:
        self.inputs = inputs
        self._messages, self._replay, self._begin_ns = messages, replay, begin_ns
        self._check = images or ImageCheck(Contract())
        self._needs_route, self._needs_geometry = needs_route, needs_geometry
        self._handlers = {
            inputs.image: self._on_image,
            inputs.odometry: self._on_odometry,
            inputs.info: self._on_info,
            inputs.path: self._on_path,
            inputs.report: self._on_report,
            inputs.twist: self._on_twist,
            inputs.lens: self._on_lens,
        }
        self._rewind()

    def _rewind(self) -> None:
        self._stream = self._in_order()
        self._pairer = FramePairer()
        self._geometry: VehicleGeometry | None = None
        self._number = 0
        self._is_fresh = True
        self._check.keep(None)
        self.route: Route | None = None
        self.recorded = RecordedFacts()
        self.watch = InputWatch()

    @property
    def counts(self) -> PairingCounts:
        return self._pairer.counts

    def reset(self, seed: int | None = None) -> Frame:
        """Return the first frame of the bag; WorldEndError if it has none."""
        del seed
        self._rewind()
        return self.step(VehicleControl())

    def step(self, control: VehicleControl) -> Frame:
        """Return the next frame.

        Raises:
            WorldEndError: the bag has no further frame.
            BagError: the bag is damaged.
        """
        del control
        for message in self._stream:
            try:
                pair = self._handlers[message.topic](message)
            except (ValueError, RecursionError) as error:
                self._replay.reject(message.topic, error)
                continue
            if pair is not None and (frame := self._frame(pair)) is not None:
                return frame
        raise WorldEndError

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _in_order(self) -> Iterator[Input]:
        """Yield the inputs by their stamps; count rejected messages."""
        order, latched = StampOrder(), {self.inputs.info, self.inputs.path}
        for raw in latched_first(self._messages(), self.inputs):
            if raw.received_ns < self._begin_ns and raw.topic.name not in latched:
                continue
            try:
                message = read_input(raw, self.inputs)
            except BagError:
                raise
            except ValueError as error:
                self._replay.reject(raw.topic.name, error)
                continue
            self._replay.note_stamp(message, self.inputs)
            yield from order.add(message)
        yield from order.rest()

    def _frame(self, pair: Pair[ImageView, VehicleState]) -> Frame | None:
        """Return a complete frame; None to skip it."""
        self._is_fresh = self._is_fresh or pair.fresh_start
        self._check.keep((pair.image.height, pair.image.width))
        if (self._needs_route and self.route is None) or (
            self._needs_geometry and self._geometry is None
        ):
            return None
        self._number, is_fresh, self._is_fresh = self._number + 1, self._is_fresh, False
        return Frame(
            number=self._number,
            image=pair.image,
            state=pair.motion,
            geometry=self._geometry,
            is_fresh=is_fresh,
        )

    def _on_image(self, message: Input) -> Pair[ImageView, VehicleState] | None:
        image, stamp = message.content, message.stamp_ns
        self.watch.on_image(stamp, image.width, image.height)
        self._check.check(image, begins=self._pairer.runs_back(stamp))
        return self._pairer.add_image(stamp, image)

    def _on_odometry(self, message: Input) -> Pair[ImageView, VehicleState] | None:
        state = state_from_odometry(message.content)
        return self._pairer.add_motion(state.stamp_ns, state)

    def _on_info(self, message: Input) -> None:
        self._geometry = geometry_from_info(message.content, DEFAULT_WHEELBASE_M)

    def _on_lens(self, message: Input) -> None:
        info = message.content
        self.watch.on_camera_info(info.width, info.height, float(info.k[0]))

    def _on_path(self, message: Input) -> None:
        self.route = announced_route(message.content)
        self._is_fresh = self._is_fresh or self.route is None

    def _on_report(self, message: Input) -> None:
        facts = fields_from_report(message.content)
        self.recorded.add(message.stamp_ns, recorded_facts(facts))

    def _on_twist(self, message: Input) -> None:
        twist = message.content.twist
        about = {'twist': [twist.linear.x, twist.angular.z]}
        self.recorded.add(message.stamp_ns, about, first=True)


class RecordedFacts:
    """Joins recorded reports with the records of their frames; either may come first."""

    def __init__(self) -> None:
        self._early: dict[int, dict[str, Any]] = {}
        self._records: dict[int, dict[str, Any]] = {}
        self._last_ns = -1

    def frame(self, record: dict[str, Any]) -> None:
        """Take the record of a frame, and add ``recorded`` to it."""
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
            first: known facts stay: an agent that ends repeats the last stamp.
        """
        record = self._records.get(stamp_ns)
        known = self._early.setdefault(stamp_ns, {}) if record is None else record['recorded']
        known.update(facts | known if first else facts)
        if len(self._early) > PARTS_KEPT:
            del self._early[next(iter(self._early))]


def recorded_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an agent's report that replay compares.

    Raises:
        ValueError: a field is invalid.
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
    if isinstance(value, list) and len(value) == 2:
        numbers = [v for v in value if isinstance(v, (int, float)) and abs(v) <= LARGEST]
        if len(numbers) == 2:
            return [float(v) for v in numbers]
    raise ValueError(f'{name} must be two numbers, got {str(value)[:60]}')
