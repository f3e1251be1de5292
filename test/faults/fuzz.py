# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Feeds invalid bytes to the subscriptions of all nodes.

``python -m faults.fuzz SEED CASES WIRED PLACE`` runs so many cases, publishes as many damaged
messages on the topics themselves, and prints in JSON what became of them and whether the same
nodes still drive. A case is drawn from SEED and its number alone, so that one that broke something
can be run again. Each begins with a good message on the wire (in CDR), is damaged, deserialised as
the middleware would, and handed to the node's own callback. What does not deserialise never
reaches a node. The number of the case at work stands in the first eight bytes of the file PLACE,
which outlives this process.
"""

from collections import Counter
import json
import math
import mmap
import random
import resource
import struct
import sys
import traceback

from faults.by_hand import BridgeByHand
from harness.messages import ROLE, image, odometry, path, vehicle_info
from harness.ros import Ros
from harness.watcher import is_sound
import rclpy
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Bool

from td3_agent.nodes import topics
from td3_agent.nodes.conversions import report_message, time_from_ns
from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.runtime import LATCHED
from td3_agent.nodes.sim_bridge_node import SimBridgeNode
from td3_agent.nodes.synchronizer_node import SynchronizerNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.processes import free_domain_id

MEMORY_BYTES = 6 << 30  # address space: an allocation by a bad length field fails at once
HEADER_BYTES = 4  # of CDR: byte order and options
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
NUMBERS = (math.nan, math.inf, -math.inf, 1e30, -1e308, 5e-324, 0.0)
WORDS = (
    *(struct.pack('<I', n) for n in (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65535, 10**9)),
    *(struct.pack('<d', number) for number in NUMBERS),
    *(struct.pack('<f', number) for number in NUMBERS[:4]),
)
MOST_SPINS = 4
MOST_BROKEN = 20  # in the output


def damaged(good, draw):
    """Return a message with damaged bytes, words, ends, or all of it."""
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


def good_message(subscription):
    """Return a valid serialised message of a subscription's type."""
    at_ns = 11_000_000_000
    facts = {'action': [0.5, 0.0], 'agent_error': 'x', 'decided_ns': 3}
    small = image(at_ns)
    small.height, small.width, small.step, small.data = 8, 8, 32, bytes(256)
    made = {
        'Image': small,
        'Odometry': odometry(at_ns),
        'Path': path(points=4),  # more only take time
        'CarlaEgoVehicleInfo': vehicle_info(),
        'DiagnosticArray': report_message(time_from_ns(at_ns), 'agent', facts),
    }
    kind = subscription.msg_type
    return serialize_message(made.get(kind.__name__, kind()))


class Fuzzer:
    """Runs cases by number and counts their results.

    None of the nodes is spun but between cases.
    """

    def __init__(self, ros, seed):
        self._ros, self._seed = ros, int(seed)
        self.bridges = BridgeByHand(ros), BridgeByHand(ros, 'free')
        small = {'start_paused': True, 'camera_width': 16, 'camera_height': 16}
        free = {'role_name': 'free', 'mode': 'free_running', 'node_name': 'free'}
        self.nodes = [
            ros.make(GateNode, silence_s=60.0),
            ros.make(GateNode, **free),
            ros.make(Td3AgentNode, driver='pure_pursuit'),
            ros.make(SynchronizerNode),
            ros.make(SimBridgeNode, role_names=['simulated'], **small),
        ]
        self.bridges[0].wait_until_driving()
        self.readers = {
            f'{node.get_name()} {subscription.topic_name}': subscription
            for node in self.nodes
            for subscription in node.subscriptions
            if not subscription.topic_name.endswith('/alive')
        }
        self.good = {name: good_message(reader) for name, reader in self.readers.items()}
        self.counts, self.broken = Counter(), []

    def run(self, count, note=lambda _: None):
        """Run ``count`` cases; ``note`` gets the number of each before it runs."""
        for number in range(count):
            note(number)
            self.case(number)
            if self.broken:
                break
            if number % 1000 == 999:
                self.settle()
        self.settle()

    def case(self, number):
        draw = random.Random((self._seed << 40) + number)
        name = draw.choice(list(self.readers))
        data = damaged(self.good[name], draw)
        try:
            msg = deserialize_message(data, self.readers[name].msg_type)
        except Exception:  # noqa: BLE001  the middleware's own, of several kinds
            self.counts['not deserialised'] += 1
        else:
            self.give(f'case {number} {name}', self.readers[name], msg)

    def give(self, what, subscription, msg):
        """Pass a message to a callback; note any exception but a rejection."""
        try:
            subscription.callback(msg)
        except Exception:  # noqa: BLE001  that is what is looked for
            self.broken.append(f'{what}: {traceback.format_exc(limit=-3)}')
        self.counts['handled'] += 1

    def wire(self, count):
        """Publish damaged messages on the topics themselves, as a hostile program would."""
        peer, draw = self._ros.peer, random.Random(self._seed)
        publishers = {
            name: peer.create_publisher(reader.msg_type, reader.topic_name, LATCHED)
            for name, reader in self.readers.items()
            if reader.topic_name != topics.control(ROLE)  # its commands are counted
        }
        for _ in range(count):
            name = draw.choice(list(publishers))
            try:
                publishers[name].publish(damaged(self.good[name], draw))
            except RuntimeError:  # too long for its type: the sender itself rejects it
                self.counts['not published'] += 1
            else:
                self.counts['published'] += 1
            self.settle()
        for publisher in publishers.values():
            peer.destroy_publisher(publisher)

    def settle(self):
        """Let timers work, and check every published command."""
        for _ in range(MOST_SPINS):
            self._ros.executor.spin_once(timeout_sec=0.0)
        self.counts['loops broken'] = self.nodes[-1].exit_status
        for bridge in self.bridges:
            self.counts['commands'] += len(bridge.commands)
            self.counts['unsound commands'] += sum(not is_sound(msg) for msg in bridge.commands)
            for received in (bridge.commands, bridge.twists, bridge.reports):
                received.clear()

    def rejected(self):
        """Return how many messages the nodes have rejected."""
        return sum(node.wiring.rejections.count for node in self.nodes)

    def expect_driving(self):
        """Expect that the same agent and gate respond to the frames of a new drive."""
        for node in self.nodes[3:]:  # they move the clock
            self._ros.drop(node)
        idle = self._ros.peer.create_publisher(Bool, topics.idle(ROLE), LATCHED)
        idle.publish(Bool(data=False))  # as the next synchronizer does; a case may have said True
        bridge = self.bridges[0]
        bridge.commands.clear()
        bridge.frame = 0
        bridge.publish_latched()
        bridge.wait_until_driving()


def main():
    """Run the cases, publish, drive, and print the results."""
    seed, cases, wired, place = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for name in ('rcl', 'rmw_fastrtps_cpp'):
        rclpy.logging.set_logger_level(name, rclpy.logging.LoggingSeverity.FATAL)
    with (
        Ros(free_domain_id()) as ros,
        open(place, 'r+b') as file,  # noqa: PTH123  for mmap
        mmap.mmap(file.fileno(), 8) as memory,
    ):
        fuzzer = Fuzzer(ros, seed)
        fuzzer.run(int(cases), lambda number: struct.pack_into('<Q', memory, 0, number))
        if not fuzzer.broken:
            fuzzer.wire(int(wired))
            rejected = fuzzer.rejected()
            fuzzer.expect_driving()
            fuzzer.counts['rejected'] = rejected
        print(json.dumps(fuzzer.counts | {'broken by': fuzzer.broken[:MOST_BROKEN]}))


if __name__ == '__main__':
    main()
