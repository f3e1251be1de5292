# SPDX-License-Identifier: Apache-2.0
"""Runs a node program with one of its guards taken away: ``patched_node.py GUARD NODE WORDS``.

The product has no switch for this: attributes of its modules are replaced before it starts.
"""

from importlib import import_module
import sys


def no_deadline():
    """The gate waits for the agent for ever."""
    from td3_agent.driving.gate import Gate

    Gate.due_ns = property(lambda _: None)


def no_hold():
    """The gate does not notice that nobody asks for frames any more."""
    from td3_agent.driving.watchdog import SilenceHold

    SilenceHold.answered = lambda *_, **__: None


def no_answer_in_advance():
    """The gate answers a frame whose command the bridge has counted already."""
    from td3_agent.driving.gate import Gate

    Gate.hold = lambda self: self.converter.stopped()


def no_jumps():
    """Time that runs back is taken for messages out of order."""
    from td3_agent.driving import gate, lockstep, pairing

    for module in (gate, lockstep, pairing):
        module.JUMP_BACK_NS = 10**18


def no_last_word():
    """The gate leaves without a stop."""
    from td3_agent.nodes.twist_to_control_node import TwistToControlNode

    TwistToControlNode.close = lambda _: None


def no_single_answer():
    """A frame that was answered is answered again when its odometry comes again."""
    from td3_agent.driving.gate import FULL_BRAKE, Answer, Gate, Outcome

    on_state = Gate.on_state

    def on_every_state(self, state, now_ns):
        if state.stamp_ns == self._stamp_ns and self.open_stamp_ns is None:
            return Answer(state.stamp_ns, FULL_BRAKE, Outcome.OK)
        return on_state(self, state, now_ns)

    Gate.on_state = on_every_state


def no_stamps():
    """Image and odometry are paired as they arrive."""
    from td3_agent.driving.pairing import FramePairer, Pair

    def add_image(self, _, image):
        self.newest_image = image

    def add_motion(self, stamp_ns, motion):
        image = getattr(self, 'newest_image', None)
        return None if image is None else Pair(stamp_ns, image, motion, fresh_start=False)

    FramePairer.add_image, FramePairer.add_motion = add_image, add_motion


def no_ledger_guard():
    """What the disk refuses ends the synchronizer."""
    from td3_agent.driving.drive_ledger import DriveLedger

    def fail(_, error):
        raise error

    DriveLedger._end = fail


def no_waiting():
    """The synchronizer steps whether its members are there or not."""
    from td3_agent.driving.attendance import Attendance

    Attendance.absent = property(lambda _: [], lambda *_: None)


def no_end_of_memory():
    """The gate keeps something of every frame."""
    from td3_agent.driving.gate import Gate

    on_frame, kept = Gate.on_frame, []

    def on_every_frame(self, stamp_ns, now_ns):
        kept.append(bytearray(b'x' * 50_000))
        return on_frame(self, stamp_ns, now_ns)

    Gate.on_frame = on_every_frame


def no_steady_pace():
    """The agent's timer runs a fifth too slow."""
    from td3_agent.nodes.td3_agent_node import Td3AgentNode

    create_timer = Td3AgentNode.create_timer

    def slower(self, period_s, *words, **more):
        return create_timer(self, period_s * 1.2, *words, **more)

    Td3AgentNode.create_timer = slower


def no_newest_wins():
    """The bridge gives every reader but the agent time to take an image."""
    import time

    from td3_agent.nodes.bridge_publisher import VehiclePublisher

    publish = VehiclePublisher._publish_camera

    def and_wait(self, stamp):
        publish(self, stamp)
        time.sleep(0.1 * (self._image.get_subscription_count() - 1))

    VehiclePublisher._publish_camera = and_wait


if __name__ == '__main__':
    guard, node = sys.argv[1:3]
    globals()[guard]()
    module = import_module(f'td3_agent.nodes.{node}')
    sys.argv = [node, *sys.argv[3:]]
    module.main()
