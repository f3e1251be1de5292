# SPDX-License-Identifier: Apache-2.0
"""Gives the raw readers of all nodes bytes that no publisher would send.

``python -m td3_agent.faults.fuzz SEED``. A line on standard input is a number of cases; they are
run, and a line of JSON tells what became of them. ``wire NUMBER`` publishes as many on the topics
themselves, ``drive`` tells whether the same nodes still drive. A case is drawn from SEED and its
number alone, so that one that broke something can be run again. Each begins with a good message on
the wire (in CDR), is damaged, deserialised as the middleware would, and handed to the node's own
callback.
What does not deserialise never reaches a node.

The number of the case at work stands in the first eight bytes of the file ``FUZZ_PLACE``, which
outlives this process.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
import json
import mmap
import os
import random
import resource
import struct
import sys
import traceback
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.serialization import deserialize_message, serialize_message

from td3_agent.driving.frames import NANOSECONDS_PER_SECOND
from td3_agent.faults.inside import (
    ROLE,
    Inside,
    Vehicle,
    image,
    is_sound,
    odometry,
    path,
    vehicle_info,
)
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import report_message, time_from_ns
from td3_agent.nodes.runtime import LATCHED
from td3_agent.nodes.sim_bridge_node import SimBridgeNode
from td3_agent.nodes.synchronizer_node import SynchronizerNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.nodes.twist_to_control_node import TwistToControlNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLACE = 'FUZZ_PLACE'
MEMORY_BYTES = 6 << 30  # address space: a length field that is believed is an error, not a swap
HEADER_BYTES = 4  # of CDR: byte order and options
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
WORDS = (
    *(struct.pack('<I', word) for word in (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65535)),
    struct.pack('<I', NANOSECONDS_PER_SECOND),
    *(
        struct.pack('<d', number)
        for number in (float('nan'), float('inf'), -float('inf'), 1e30, -1e308, 5e-324, 0.0)
    ),
    *(struct.pack('<f', number) for number in (float('nan'), float('inf'), -1e30)),
)
MOST_SPINS = 4


class Targets:
    """The subscriptions of all nodes, and a good message for each."""

    def __init__(self, inside: Inside) -> None:
        """Start the four nodes; none of them is spun but between cases."""
        self.vehicle, self.free = Vehicle(inside), Vehicle(inside, 'free')
        free: dict[str, Any] = {'role_name': 'free', 'mode': 'free_running'}
        small = {'start_paused': True, 'camera_width': 16, 'camera_height': 16}
        self.nodes = [
            inside.make(TwistToControlNode, silence_s=60.0),
            inside.make(TwistToControlNode, node_name='free', **free),
            inside.make(Td3AgentNode, driver='pure_pursuit'),
            inside.make(SynchronizerNode),
            inside.make(SimBridgeNode, role_names=['simulated'], **small),
        ]
        self.vehicle.wait_until_driving()
        self.readers = [
            (f'{node.get_name()} {subscription.topic_name}', subscription)
            for node in self.nodes
            for subscription in node.subscriptions
            if not subscription.topic_name.endswith('/alive')
        ]
        self.good = {name: self._good(subscription) for name, subscription in self.readers}

    @staticmethod
    def _good(subscription: Any) -> bytes:  # noqa: ANN401  rclpy's
        """Return a good message of a subscription's type, on the wire."""
        at_ns = 11_000_000_000
        facts = {'action': [0.5, 0.0], 'agent_error': 'x', 'decided_ns': 3}
        small = image(at_ns)
        small.height, small.width, small.step, small.data = 8, 8, 32, bytes(256)
        made = {
            'Image': small,
            'Odometry': odometry(at_ns),
            'Path': path(points=4),  # more take most of the time, and find nothing else
            'CarlaEgoVehicleInfo': vehicle_info(),
            'DiagnosticArray': report_message(time_from_ns(at_ns), 'agent', facts),
        }
        kind = subscription.msg_type
        return serialize_message(made.get(kind.__name__, kind()))


def damaged(good: bytes, draw: random.Random) -> bytes:
    """Return a message with something wrong: bytes, words, ends, or all of it."""
    way = draw.randrange(8)
    if way == 0:
        return good[:HEADER_BYTES] + draw.randbytes(draw.randrange(400))
    if way == 1:
        return draw.randbytes(draw.randrange(64))
    data = bytearray(good)
    if way == 2:
        return bytes(data[: draw.randrange(len(data))])
    if way == 3:
        return bytes(data) + draw.randbytes(draw.randrange(1, 64))
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(min(HEADER_BYTES if way < 7 else 0, len(data) - 1), len(data))
        if way == 4:
            data[at] ^= 1 << draw.randrange(8)
        elif way == 5:
            data[at] = draw.choice(INTERESTING)
        else:
            word = draw.choice(WORDS)
            at -= (at - HEADER_BYTES) % 4  # fields are aligned
            data[at : at + len(word)] = word[: max(len(data) - at, 0)]
    return bytes(data)


class Fuzzer:
    """Runs cases by their number, and counts what becomes of them."""

    def __init__(self, inside: Inside, seed: str, place: Callable[[int], None]) -> None:
        """Draw from ``seed``; tell ``place`` the number of each case."""
        self._inside, self._seed, self._place = inside, seed, place
        self._targets = Targets(inside)
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.number = 0

    def run(self, count: int) -> None:
        """Run the next ``count`` cases."""
        for _ in range(count):
            self._place(self.number)
            self.case(self.number)
            self.number += 1
            if self.number % 1000 == 0:
                self._settle()
        self._settle()

    def case(self, number: int) -> None:
        """Run one case."""
        draw = random.Random((int(self._seed) << 40) + number)  # noqa: S311  no secret
        name, subscription = draw.choice(self._targets.readers)
        data = damaged(self._targets.good[name], draw)
        try:
            msg = deserialize_message(data, subscription.msg_type)
        except Exception:  # noqa: BLE001  the middleware's own, of several kinds
            self.counts['not deserialised'] += 1
            return
        self.give(f'case {number} {name}', subscription, msg)

    def wire(self, count: int) -> None:
        """Publish damaged messages on the topics themselves, as a hostile program would."""
        peer, draw = self._inside.peer, random.Random(int(self._seed))  # noqa: S311  no secret
        publishers = {
            name: peer.create_publisher(reader.msg_type, reader.topic_name, LATCHED)
            for name, reader in self._targets.readers
            if reader.topic_name != topics.control(ROLE)  # what comes there is counted as ours
        }
        for _ in range(count):
            name = draw.choice(list(publishers))
            self._publish(publishers[name], damaged(self._targets.good[name], draw))
            self._settle()
        for publisher in publishers.values():
            peer.destroy_publisher(publisher)

    def _publish(self, publisher: Any, data: bytes) -> None:  # noqa: ANN401  rclpy's
        """Publish bytes; more of them than the type can have stay with the sender."""
        try:
            publisher.publish(data)
        except RuntimeError:  # rclpy's RCLError
            self.counts['not published'] += 1
        else:
            self.counts['on the wire'] += 1

    def give(self, what: str, subscription: Any, msg: Any) -> None:  # noqa: ANN401  rclpy's
        """Hand a message to a callback; note what comes out of it but a refusal."""
        try:
            subscription.callback(msg)
        except Exception:  # noqa: BLE001  that is what is looked for
            if len(self.broken) < 20:
                self.broken.append(f'{what}: {traceback.format_exc(limit=-3)}')
            self.counts['broken'] += 1
        else:
            self.counts['handled'] += 1

    def _settle(self) -> None:
        """Let timers work, and look at every command that was published."""
        for _ in range(MOST_SPINS):
            self._inside.executor.spin_once(timeout_sec=0.0)
        self.counts['loops broken'] = self._targets.nodes[-1].exit_status
        for vehicle in (self._targets.vehicle, self._targets.free):
            self.counts['commands'] += len(vehicle.commands)
            self.counts['unsound commands'] += sum(not is_sound(m) for m in vehicle.commands)
            for heard in (vehicle.commands, vehicle.twists, vehicle.reports):
                heard.clear()

    def refusals(self) -> int:
        """Return how many messages the nodes have refused."""
        return sum(node.wiring.rejections.count for node in self._targets.nodes)

    def still_drives(self) -> bool:
        """Whether agent and gate, the same ones, answer the frames of a new drive."""
        for node in self._targets.nodes[3:]:  # whoever else moves the clock
            self._inside.drop(node)
        vehicle = self._targets.vehicle
        vehicle.commands.clear()
        vehicle.frame = 0
        vehicle.info_pub.publish(vehicle_info())
        vehicle.path_pub.publish(path())
        vehicle.wait_until_driving()
        return True


@contextmanager
def _shared_place() -> Iterator[Callable[[int], None]]:
    """Yield what writes a case's number where it outlives the process."""
    if PLACE not in os.environ:
        yield lambda _: None
        return
    with open(os.environ[PLACE], 'r+b') as file, mmap.mmap(file.fileno(), 8) as memory:  # noqa: PTH123
        yield lambda number: struct.pack_into('<Q', memory, 0, number)


def main() -> None:
    """Run as many cases as each line of the input says."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with Inside() as inside:
        for node_logger in ('rcl', 'rmw_fastrtps_cpp'):
            rclpy.logging.set_logger_level(node_logger, rclpy.logging.LoggingSeverity.FATAL)
        with _shared_place() as place:
            fuzzer = Fuzzer(inside, sys.argv[1], place)
            for line in sys.stdin:
                sys.stdout.write(json.dumps(_obey(fuzzer, line.split())) + '\n')
                sys.stdout.flush()


def _obey(fuzzer: Fuzzer, words: list[str]) -> dict[str, Any]:
    """Do what a line says; return what came of it."""
    if words == ['drive']:
        return {'drives': fuzzer.still_drives()}
    if words[0] == 'wire':
        fuzzer.wire(int(words[1]))
    else:
        fuzzer.run(int(words[0]))
    found = {'cases': fuzzer.number, 'refused': fuzzer.refusals(), 'broken_by': fuzzer.broken}
    return dict(fuzzer.counts) | found


if __name__ == '__main__':
    main()
