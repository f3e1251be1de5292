# SPDX-License-Identifier: Apache-2.0
"""Rows in which messages carry what no sensor says: refused by name, and the car stopped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.faults.inside import (
    ROLE,
    SIDE_PX,
    Inside,
    Vehicle,
    is_sound,
    is_stop,
    resources,
)
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.scene import LONGEST_NAMING_S
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.nodes.twist_to_control_node import TwistToControlNode
from td3_agent.td3.replay import ReplayBuffer
from td3_agent.td3.transitions import ObservationShape, Observed, ReplayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from td3_agent.faults.scene import Scene

DEADLINE_S = 0.15  # of the gate: every refused frame takes so long
PATIENT_NS = 5_000_000_000  # where it is not the stop that is looked at, and others compute
BAD_NUMBERS = (math.nan, math.inf, -math.inf, 1e30)
MOST_GROWTH_MB = 24.0
ODOMETRY_FIELDS = {
    'pose.pose.position.x': 'x_m',
    'pose.pose.position.y': 'y_m',
    'pose.pose.position.z': 'z_m',
    'pose.pose.orientation.z': 'orientation',
    'twist.twist.linear.x': 'speed_mps',
    'twist.twist.angular.z': 'yaw_rate_radps',
}
BAD_ODOMETRY: tuple[tuple[dict[str, Any], str], ...] = (
    *(
        ({field: bad}, name)
        for field, name in ODOMETRY_FIELDS.items()
        for bad in BAD_NUMBERS
        if (name, bad) != ('orientation', 1e30)  # a direction all the same
    ),
    ({'pose.pose.orientation.w': 0.0}, 'orientation'),
    ({'header.stamp.nanosec': 10**9}, 'stamp.nanosec'),
    ({'header.stamp.sec': -1}, 'stamp.sec'),
    ({'header.frame_id': ''}, 'header.frame_id'),
)
BAD_ENCODINGS = ('16UC1', '32FC1', '8UC3', 'yuv422', 'bayer_rggb8', 'BGRA8', '')
IMAGE_BYTES = 4 * SIDE_PX * SIDE_PX
BAD_SIZES: tuple[tuple[dict[str, Any], str], ...] = (
    ({'data': bytes(IMAGE_BYTES - 1)}, 'data'),
    ({'data': b''}, 'data'),
    ({'data': bytes(IMAGE_BYTES + 1)}, 'data'),
    ({'data': bytes(40 * IMAGE_BYTES)}, 'data'),
    ({'height': 0, 'width': 0, 'step': 0, 'data': b''}, 'height'),
    ({'width': 0}, 'width'),
    ({'height': 65535, 'width': 65535, 'step': 4 * 65535}, 'height'),
    ({'height': 8192, 'width': 8192, 'step': 4 * 8192}, 'data'),
    ({'height': 2**32 - 1, 'width': 1, 'step': 4}, 'height'),
    ({'step': 2**32 - 1}, 'data'),
    ({'step': 1}, 'step'),
    ({'height': 42, 'data': bytes(IMAGE_BYTES // 2)}, 'height, width'),  # resolution changed
)


class Bench:
    """Agent and gate, a vehicle moved by hand, and the reasons of every refusal."""

    def __init__(self, inside: Inside, **parameters: Any) -> None:  # noqa: ANN401
        """Start to drive."""
        self.inside = inside
        self.vehicle = Vehicle(inside)
        self.reasons: list[str] = []
        self.gate = inside.make(TwistToControlNode, deadline_s=DEADLINE_S, silence_s=60.0)
        self.agent = inside.make(Td3AgentNode, **({'driver': 'pure_pursuit'} | parameters))
        self._heard_by(self.agent)
        self.vehicle.wait_until_driving()

    def _heard_by(self, node: Any) -> None:  # noqa: ANN401  a node
        """Note the reasons of what a node refuses."""
        tell = node.wiring.rejections._on_rejected  # noqa: SLF001  the row looks inside

        def note(topic: str, reason: object) -> None:
            self.reasons.append(f'{topic}: {reason}')
            tell(topic, reason)

        node.wiring.rejections._on_rejected = note  # noqa: SLF001  as above

    def refused(self, outcome: Outcome, what: str, name: str, **changes: dict[str, Any]) -> None:
        """Give one bad frame: it is refused by field name and the car is stopped for it."""
        self.reasons.clear()
        command = self.vehicle.answered(self.vehicle.give(**changes))
        self.inside.holds_within(lambda: self.reasons, 1.0)
        told = ' '.join(self.reasons)
        outcome.check(f'{what} is refused by name', name in told, told[:200] or 'nothing', name)
        outcome.check(f'{what} stops the car', is_stop(command), command, 'full brake')

    def named(self, outcome: Outcome, what: str, word: str, **changes: dict[str, Any]) -> None:
        """Give one bad frame: diagnostics name it in time."""
        self.inside.holds_within(lambda: False, 1.1)  # what was told before is no news any more
        self.vehicle.give(**changes)
        found = self.inside.holds_within(
            lambda: self.vehicle.names('td3_agent: inputs', word), LONGEST_NAMING_S
        )
        outcome.check(f'{what} is diagnosed', found is not None, found, '<= 1 s')

    def recovers(self, outcome: Outcome) -> None:
        """Good frames are driven by again, and nothing unsound was ever commanded."""
        self.gate.gate.deadline_ns = PATIENT_NS
        stops = [msg for msg in self.vehicle.drive(5) if is_stop(msg)]
        outcome.equal('stops in five good frames afterwards', len(stops), 0)
        unsound = [msg for msg in self.vehicle.commands if not is_sound(msg)]
        outcome.none('P0 commands out of range', unsound)
        outcome.figures |= {
            'frames': self.vehicle.frame,
            'refused': self.agent.wiring.rejections.count,
        }


@row('F10', 'odometry that is no number, or of no time')
def not_finite(scene: Scene) -> Outcome:
    """Refused by field name; three in a row stop a car that runs freely; nothing is learned."""
    outcome = Outcome()
    cases = BAD_ODOMETRY[::4] + BAD_ODOMETRY[-4:] if scene.quick else BAD_ODOMETRY
    with Inside() as inside:
        bench = Bench(inside)
        for change, name in cases:
            bench.refused(outcome, f'odometry {change}', name, odometry=change)
        bench.named(outcome, 'nan', 'speed_mps', odometry={'twist.twist.linear.x': math.nan})
        bench.recovers(outcome)
    _three_in_a_row(outcome)
    outcome.none('what the replay buffer takes', _learned(BAD_NUMBERS[:3]))
    return outcome


def _three_in_a_row(outcome: Outcome) -> None:
    """Let nothing but the count of refusals stop a freely running car."""
    free: dict[str, Any] = {'mode': 'free_running'}
    with Inside() as inside:
        vehicle = Vehicle(inside)
        inside.make(TwistToControlNode, **free, deadline_s=500.0, bridge_wait_s=600.0)
        agent = inside.make(Td3AgentNode, **free, driver='pure_pursuit', max_frame_age_s=60.0)
        refusals = agent.wiring.rejections
        inside.wait_for(vehicle.path_pub.get_subscription_count, 'the agent')
        inside.wait_for(lambda: _drives(vehicle), 'driving')
        stopped_after = None
        for number in range(1, 5):
            vehicle.give(odometry={'twist.twist.linear.x': math.nan})
            inside.wait_for(lambda n=number: refusals.count >= n, 'refused')
            heard = len(vehicle.commands)
            inside.holds_within(lambda h=heard: len(vehicle.commands) >= h + 3, 1.0)
            if is_stop(vehicle.commands[-1]):
                stopped_after = number
                break
        outcome.equal(
            'refused frames in a row before a freely running car stops', stopped_after, 3
        )
        told = inside.holds_within(lambda: vehicle.names('td3_agent', 'speed_mps'), 1.0)
        outcome.check('the agent says why', told is not None, told, '<= 1 s')
        inside.wait_for(lambda: _drives(vehicle), 'driving again')


def _drives(vehicle: Vehicle) -> bool:
    """Give a good frame, and tell whether the newest command is to drive."""
    vehicle.give()
    heard = len(vehicle.commands)
    vehicle.inside.holds_within(lambda: len(vehicle.commands) > heard, 0.2)
    return bool(vehicle.commands) and not is_stop(vehicle.commands[-1])


def _learned(bad_numbers: Iterable[float]) -> list[str]:
    """Return what a replay buffer has taken although it is no number."""
    taken = []
    for bad in bad_numbers:
        buffer = ReplayBuffer(ObservationShape(state_size=1), 1, capacity=16, seed=0)
        good, poor = Observed(np.zeros(1, np.float32)), Observed(np.full(1, bad, np.float32))
        buffer.begin(good)
        action, flags = np.zeros(1, np.float32), {'terminated': False, 'truncated': False}
        for name, words in (
            ('observation', (action, 0.0, poor)),
            ('reward', (action, bad, good)),
            ('action', (np.full(1, bad, np.float32), 0.0, good)),
        ):
            try:
                buffer.add(*words, **flags)
            except ReplayError:
                continue
            taken.append(f'{name} {bad}')
    return taken


@row('F12', 'image encodings, padding and byte order')
def encodings(scene: Scene) -> Outcome:
    """Known encodings give the same observation bit by bit; others are refused."""
    outcome = Outcome()
    draw = np.random.default_rng(scene.seed)
    colours = draw.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    with Inside() as inside:
        bench = Bench(inside)
        bench.gate.gate.deadline_ns = PATIENT_NS
        hashes = {}
        for name, change in _same_picture(colours).items():
            bench.vehicle.frame += 100  # a gap: stack and last action begin anew
            stamp_ns = bench.vehicle.give(image=change)
            bench.vehicle.answered(stamp_ns)
            inside.holds_within(lambda s=stamp_ns: _hash_of(bench, s), 1.0)
            hashes[name] = _hash_of(bench, stamp_ns)
        for name, found in hashes.items():
            outcome.equal(f'observation of {name}', found, hashes['bgra8'])
        bench.gate.gate.deadline_ns = round(DEADLINE_S * 1e9)
        for encoding in BAD_ENCODINGS:
            wrong = {'encoding': encoding}
            bench.refused(outcome, f'encoding {encoding!r}', 'encoding', image=wrong)
        bench.named(outcome, 'an encoding', '16UC1', image={'encoding': '16UC1'})
        bench.recovers(outcome)
    outcome.figures |= {'encodings_equal': len(hashes), 'encodings_refused': len(BAD_ENCODINGS)}
    return outcome


def _hash_of(bench: Bench, stamp_ns: int) -> str | None:
    """Return the hash of the observation that the agent has made of a frame."""
    found = [facts for facts in bench.vehicle.reports if facts['stamp_ns'] == stamp_ns]
    return found[0].get('observation_sha256') if found else None


def _same_picture(colours: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401  (H, W, 3) uint8
    """Return one picture, (H, W, 3) uint8 RGB, in every encoding there is, and padded."""
    grey = ((colours.astype(np.uint16) @ np.array([77, 150, 29], np.uint16) + 128) >> 8)[..., None]
    opaque = np.full((SIDE_PX, SIDE_PX, 1), 7, np.uint8)
    pixels = {
        'bgra8': np.concatenate((colours[:, :, ::-1], opaque), axis=2),
        'rgba8': np.concatenate((colours, opaque), axis=2),
        'bgr8': colours[:, :, ::-1],
        'rgb8': colours,
        'mono8': grey.astype(np.uint8),
    }
    found: dict[str, dict[str, Any]] = {}
    for encoding, values in pixels.items():
        rows = np.ascontiguousarray(values).reshape(SIDE_PX, -1)
        for padding in (0, 13):
            padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
            name = f'{encoding} padded' if padding else encoding
            found[name] = {
                'encoding': encoding,
                'step': padded.shape[1],
                'data': padded.tobytes(),
            }
    return found | {'bgra8 big-endian': found['bgra8'] | {'is_bigendian': 1}}


@row('F13', 'image sizes that its data does not have')
def sizes(scene: Scene) -> Outcome:
    """Refused by field name, before any memory is taken for them."""
    del scene
    outcome = Outcome()
    with Inside() as inside:
        bench = Bench(inside)
        before = resources()['rss_mb']
        for change, name in BAD_SIZES:
            what = {key: len(v) if isinstance(v, bytes) else v for key, v in change.items()}
            bench.refused(outcome, f'image {what}', name, image=change)
        growth_mb = resources()['rss_mb'] - before
        bench.named(outcome, 'a size', 'data must hold', image={'data': b''})
        bench.recovers(outcome)
    outcome.most('memory grown', growth_mb, MOST_GROWTH_MB, 'MB')
    outcome.figures |= {'role': ROLE, 'memory_grown_mb': round(growth_mb, 1)}
    return outcome
