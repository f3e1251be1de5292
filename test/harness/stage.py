# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The loop of CARLA's bridge as a generator, and a stage on which a lockstep steps it.

No clock and no thread: a :class:`Stage` moves steady time from one event to the next, and decides
how long each message takes.
"""

from collections import deque
from dataclasses import dataclass, field
import heapq
from itertools import count

from td3_agent.driving.lockstep import Lockstep, Phase
from td3_agent.driving.stepping import (
    BridgeRequest,
    LockstepParams,
)

MS = 1_000_000  # [ns]
S = 1_000_000_000  # [ns]
STEP_NS = 50 * MS
ROLE = 'ego_vehicle'


class BridgeLoop:
    """The bridge's loop with the wait option on, as a generator that yields when to wake it.

    Each turn: drain the control queue (only the newest counts; PAUSE blocks), tick, publish
    status and clock, wait at most 1.0 s for every vehicle's command. Commands are counted, their
    stamps ignored: one that comes while none is missing ends the next wait. Status is published
    when the frame or the running flag changes, and never repeated for a late listener.
    """

    def __init__(  # noqa: PLR0913  how a bridge may stand when it is met
        self, stage, roles, *, frame=1000, stamp_ns=10 * S, paused=False, tick_ns=2 * MS
    ):
        self.stage, self.roles = stage, roles  # the stage has now_ns and send(topic, content)
        self.frame, self.stamp_ns, self._tick_ns = frame, stamp_ns, tick_ns
        self.queue = deque(['pause'] if paused else [])
        self.missing = set()
        self.is_complete = self.is_waiting = False
        self.running = True
        self.ticks = []  # (frame, commands that were missing when its wait ended)
        self.loop = self._loop()
        self.wake_ns = 0

    def on_control(self, request):
        self.queue.append(
            {BridgeRequest.PAUSE: 'pause', BridgeRequest.STEP_ONCE: 'step'}.get(request, request)
        )

    def on_command(self, role):
        self.missing.discard(role)
        self.is_complete = self.is_complete or not self.missing

    def advance(self):
        """Run until it waits again; call this after every event."""
        self.wake_ns = next(self.loop)

    def _loop(self):
        while True:
            yield from self._turn()
            self.missing = set(self.roles)
            yield from self._until(self.stage.now_ns + self._tick_ns)  # tick and sensors
            self.frame += 1
            self.stamp_ns += STEP_NS
            self.publish_status()
            self.stage.send('clock', self.stamp_ns)
            missing = (yield from self._wait(self.stage.now_ns + S)) if self.missing else ()
            self.ticks.append((self.frame, frozenset(missing)))

    def _wait(self, due_ns):
        self.is_waiting = True
        while not self.is_complete and self.stage.now_ns < due_ns:
            yield due_ns
        missing = () if self.is_complete else self.missing
        self.is_complete = self.is_waiting = False
        return missing

    def _turn(self):
        newest = None
        while self.queue:
            newest = self.queue.popleft()
        while newest == 'pause':
            self._set_running(running=False)
            while not self.queue:
                yield None
            newest = self.queue.popleft()
        if newest in {'step', 'play'}:
            self._set_running(running=True)
        if newest == 'step':
            self.queue.append('pause')

    def _until(self, when_ns):
        while self.stage.now_ns < when_ns:
            yield when_ns

    def _set_running(self, *, running):
        if running != self.running:
            self.running = running
            self.publish_status()

    def publish_status(self):
        self.stage.send('status', (self.frame, self.running))


@dataclass
class Stage:
    """Steady time, the messages under way, one bridge, the gates and the lockstep."""

    params: LockstepParams = field(default_factory=LockstepParams)
    copies: int = 1  # every message arrives so often
    delay_ns: object = lambda _: MS  # of a message on a topic; order within a topic is kept
    gate_answers: object = lambda _role, _stamp_ns: True
    lost_requests: int = 0
    lost: dict = field(default_factory=dict)  # messages of the bridge still to be lost, by topic
    gates_present: bool = True
    joined: bool = True  # whether the lockstep is there
    now_ns: int = S
    most_steps: int = 10**9

    def __post_init__(self):
        self.lockstep = Lockstep(self.params, STEP_NS)
        self.requests = []  # (steady time, request, phase before)
        self.verdicts = []
        self._under_way, self._order, self._last_ns = [], count(), {}
        self._answered = set()
        self.bridge = None

    def start(self, **how):
        """Start a bridge, or another one in place of the last."""
        self._under_way = []
        self._answered = set()
        self.bridge = BridgeLoop(self, self.params.role_names, **how)
        self.bridge.advance()
        return self

    def send(self, topic, content):
        arrival_ns = max(self.now_ns + self.delay_ns(topic), self._last_ns.get(topic, 0))
        self._last_ns[topic] = arrival_ns
        for _ in range(self.copies):
            item = (arrival_ns, next(self._order), topic, content)
            heapq.heappush(self._under_way, item)

    def run(self, seconds, until=lambda _: False):
        """Let events happen, for so long or until something holds."""
        end_ns = self.now_ns + round(seconds * S)
        while not until(self):
            self._poll()
            self.bridge.advance()
            wishes = [self.bridge.wake_ns, self._lockstep_wake_ns()]
            wishes += [self._under_way[0][0]] if self._under_way else []
            next_ns = min((w for w in wishes if w is not None), default=end_ns + 1)
            if next_ns > end_ns:
                self.now_ns = end_ns
                break
            self.now_ns = max(self.now_ns, next_ns)
            if self._under_way and self._under_way[0][0] <= self.now_ns:
                self._deliver(*heapq.heappop(self._under_way)[2:])
        return self

    def steps(self, number, seconds=60.0):
        """Run until so many steps were made, and leave it at that."""
        self.most_steps = number

        def finished(stage):
            return stage.lockstep.counts.steps == number and stage.lockstep.phase is Phase.READY

        return self.run(seconds, finished)

    def _may_step(self):
        return self.gates_present and self.lockstep.counts.steps < self.most_steps

    def _lockstep_wake_ns(self):
        wake_ns = self.lockstep.wake_ns(self.now_ns)
        resting = self.lockstep.phase is Phase.READY and not self._may_step()
        if wake_ns is None or resting or not (self.gates_present and self.joined):
            return None
        return max(wake_ns, self.now_ns + 1)

    def _poll(self):
        if not self.joined:
            return
        before = self.lockstep.phase
        request = self.lockstep.poll(self.now_ns, gates_present=self._may_step())
        if request is BridgeRequest.STEP_ONCE and not self.sent(request):
            self.frame_before_steps = self.bridge.frame
        if request is not None:
            self.requests.append((self.now_ns, request, before))
            self.send('control', request)

    def _deliver(self, topic, content):
        if self.lost.get(topic, 0):
            self.lost[topic] -= 1
            return
        if self.joined:
            self._inform_lockstep(topic, content)
        if topic == 'clock':
            self._answer(content)
        elif topic == 'control' and self.lost_requests:
            self.lost_requests -= 1
        elif topic == 'control':
            self.bridge.on_control(content)
        elif topic == 'command at bridge':
            self.bridge.on_command(content[0])

    def _inform_lockstep(self, topic, content):
        if topic == 'status':
            frame, running = content
            self.lockstep.on_status(frame, running=running, now_ns=self.now_ns)
        elif topic == 'clock':
            self.lockstep.on_clock(content)
        elif topic == 'command':
            self.verdicts.append(self.lockstep.on_command(*content))

    def _answer(self, stamp_ns):
        """Every gate answers a frame once, however often it hears of it."""
        for role in self.params.role_names:
            if (role, stamp_ns) in self._answered or not self.gate_answers(role, stamp_ns):
                continue
            self._answered.add((role, stamp_ns))
            self.send('command', (role, stamp_ns))
            self.send('command at bridge', (role, stamp_ns))

    def sent(self, request):
        return [when_ns for when_ns, what, _ in self.requests if what is request]


def fast(**params):
    return LockstepParams(real_time_factor=0.0, **params)


def paused_lockstep(params=None):
    """Return a lockstep at frame 7 of a bridge that was just paused."""
    lockstep = Lockstep(params or fast(), STEP_NS)
    assert lockstep.poll(0) is BridgeRequest.PAUSE
    lockstep.on_status(7, running=True, now_ns=0)
    lockstep.on_status(7, running=False, now_ns=0)
    assert lockstep.phase is Phase.READY
    return lockstep
