# SPDX-License-Identifier: Apache-2.0
"""Lockstep against a small bridge that pauses, steps and keeps silent as CARLA's does.

No clock and no thread: a :class:`Stage` moves steady time from one event to the next, and every
message takes the time it is told to take.
"""

from collections import deque
from dataclasses import dataclass, field
import heapq
from itertools import count, pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from td3_agent.driving.lockstep import Event, Lockstep, Phase
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.stepping import (
    Break,
    Cause,
    EndedFrame,
    LockstepParams,
    Pacer,
    Request,
    StepBarrier,
    Verdict,
)

unhurried = settings(deadline=None)  # the machine may be busy with something else
MS = 1_000_000  # [ns]
S = 1_000_000_000  # [ns]
STEP_NS = 50 * MS
ROLE = 'ego_vehicle'


class TestStepBarrier:
    def test_nobody_is_missing_before_the_first_instant(self):
        barrier = StepBarrier(['a', 'b'])
        assert barrier.missing == frozenset()
        assert barrier.stamp_ns == -1

    def test_instant_waits_for_every_member(self):
        barrier = StepBarrier(['a', 'b'])
        barrier.open(100)
        assert barrier.missing == {'a', 'b'}
        assert barrier.answer('a', 100) is Verdict.ACCEPTED
        assert barrier.missing == {'b'}
        assert barrier.answer('b', 100) is Verdict.ACCEPTED
        assert not barrier.missing

    def test_answering_twice_counts_once(self):
        barrier = StepBarrier(['a', 'b'])
        barrier.open(100)
        barrier.answer('a', 100)
        assert barrier.answer('a', 100) is Verdict.REPEATED
        assert barrier.missing == {'b'}

    def test_stranger_does_not_count(self):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        assert barrier.answer('stranger', 100) is Verdict.REPEATED
        assert barrier.missing == {'a'}

    def test_late_answer_does_not_release_a_later_instant(self):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        barrier.open(200)
        assert barrier.answer('a', 100) is Verdict.STALE
        assert barrier.missing == {'a'}

    def test_early_answer_is_kept_for_its_own_instant_only(self):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        assert barrier.answer('a', 300) is Verdict.EARLY
        barrier.open(200)
        assert barrier.missing == {'a'}
        barrier.open(300)
        assert not barrier.missing

    def test_early_answers_to_instants_that_were_jumped_over_are_forgotten(self):
        barrier = StepBarrier(['a'])
        for stamp_ns in range(1, 100):
            barrier.answer('a', stamp_ns)
        barrier.open(200)
        assert barrier.missing == {'a'}
        assert not barrier._early

    @pytest.mark.parametrize('stamp_ns', [100, 99, 0])
    def test_time_must_grow(self, stamp_ns):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        with pytest.raises(ValueError, match=f'went from 100 to {stamp_ns} ns'):
            barrier.open(stamp_ns)

    @unhurried
    @given(st.lists(st.tuples(st.sampled_from('abx'), st.integers(1, 5)), max_size=40), st.data())
    def test_whatever_order_each_instant_wants_exactly_its_own_answers(self, answers, data):
        barrier, given_ = StepBarrier('ab'), set()
        opened = 0
        for member, stamp_ns in answers:
            while opened < 5 and data.draw(st.booleans()):
                opened += 1
                barrier.open(opened)
            verdict = barrier.answer(member, stamp_ns)
            assert (verdict is Verdict.STALE) == (stamp_ns < opened)
            given_.add((member, stamp_ns))
            if opened:
                assert barrier.missing == {m for m in 'ab' if (m, opened) not in given_}


class TestPacer:
    @pytest.mark.parametrize('period_ns', [STEP_NS, 33_333_333])
    def test_jittered_calls_do_not_make_it_drift(self, period_ns):
        pacer, start_ns = Pacer(period_ns), 7 * S
        now_ns = start_ns
        for step in range(10_000):
            assert pacer.due_ns(now_ns) == start_ns + step * period_ns
            now_ns = pacer.due_ns(now_ns) + (step * 7919) % (period_ns // 2)  # always late
            pacer.stepped(now_ns)

    def test_stall_is_given_up_and_not_caught_up(self):
        pacer = Pacer(STEP_NS)
        pacer.stepped(0)
        stalled_ns = 10 * S
        steps = 0
        while pacer.due_ns(stalled_ns) <= stalled_ns:
            pacer.stepped(stalled_ns)
            steps += 1
        assert steps == 1
        assert pacer.due_ns(stalled_ns) == stalled_ns + STEP_NS

    def test_small_lag_is_caught_up(self):
        pacer = Pacer(STEP_NS)
        pacer.stepped(0)
        pacer.stepped(STEP_NS + Pacer.LARGEST_LAG_STEPS * STEP_NS)
        assert pacer.due_ns(0) == 2 * STEP_NS

    def test_no_burst_is_longer_than_the_largest_lag(self):
        pacer = Pacer(STEP_NS)
        pacer.stepped(0)
        for lag_ns in range(0, S, 13 * MS):
            now_ns = pacer.due_ns(0) + lag_ns
            steps = 0
            while pacer.due_ns(now_ns) <= now_ns:
                pacer.stepped(now_ns)
                steps += 1
            assert steps <= Pacer.LARGEST_LAG_STEPS + 1

    def test_period_of_zero_is_as_fast_as_possible(self):
        pacer = Pacer(0)
        for now_ns in (0, 5, 5, 6, 10 * S):
            assert pacer.due_ns(now_ns) == now_ns
            pacer.stepped(now_ns)


class Bridge:
    """The bridge's loop with the wait option on, as a generator that yields when to wake it.

    Each turn: drain the control queue (only the newest counts; PAUSE blocks), tick, publish
    status and clock, wait at most 1.0 s for every vehicle's command. Status is published when
    the frame or the running flag changes, and never repeated for a late listener.
    """

    def __init__(self, stage, roles, *, frame=1000, stamp_ns=10 * S, paused=False):
        self.stage, self.roles = stage, roles
        self.frame, self.stamp_ns = frame, stamp_ns
        self.queue = deque(['pause'] if paused else [])
        self.missing = set()
        self.running = True
        self.ticks = []  # (frame, commands that were missing when its wait ended)
        self.loop = self._loop()
        self.wake_ns = 0

    def on_control(self, request):
        self.queue.append(
            {Request.PAUSE: 'pause', Request.STEP_ONCE: 'step'}.get(request, request)
        )

    def on_command(self, role):
        self.missing.discard(role)

    def advance(self):
        """Run until it waits again; it is asked after every event."""
        self.wake_ns = next(self.loop)

    def _loop(self):
        while True:
            yield from self._turn()
            self.missing = set(self.roles)
            yield from self._until(self.stage.now_ns + 2 * MS)  # tick and sensors
            self.frame += 1
            self.stamp_ns += STEP_NS
            self._publish_status()
            self.stage.send('clock', self.stamp_ns)
            due_ns = self.stage.now_ns + S
            while self.missing and self.stage.now_ns < due_ns:
                yield due_ns
            self.ticks.append((self.frame, frozenset(self.missing)))

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
            self._publish_status()

    def _publish_status(self):
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
        self.bridge = Bridge(self, self.params.role_names, **how)
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
        if request is Request.STEP_ONCE and not self.sent(request):
            self.frame_before_steps = self.bridge.frame
        if request is not None:
            self.requests.append((self.now_ns, request, before))
            self.send('control', request)

    def _deliver(self, topic, content):
        if self.lost.get(topic, 0):
            self.lost[topic] -= 1
            return
        if self.joined:
            self._tell_lockstep(topic, content)
        if topic == 'clock':
            self._answer(content)
        elif topic == 'control' and self.lost_requests:
            self.lost_requests -= 1
        elif topic == 'control':
            self.bridge.on_control(content)
        elif topic == 'command at bridge':
            self.bridge.on_command(content[0])

    def _tell_lockstep(self, topic, content):
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


def check_clean(stage, steps):
    """One STEP_ONCE, one frame and one command of every role per step, and nothing else."""
    counts = stage.lockstep.counts
    assert counts.steps == steps
    assert len(stage.sent(Request.STEP_ONCE)) == steps
    stepped = stage.bridge.ticks[-steps:]
    assert all(later[0] == earlier[0] + 1 for earlier, later in pairwise(stepped))
    assert not any(missing for _, missing in stepped)
    assert (counts.resent, counts.no_command, counts.skipped) == (0, 0, 0)
    # A STEP_ONCE that arrives twice really ticks twice: the lockstep cannot undo that, but tells.
    stage.run(2.0)
    assert counts.uninvited == stage.bridge.frame - stage.frame_before_steps - steps
    assert counts.uninvited == 0 or stage.copies > 1


def test_bridge_that_plays_is_paused_and_then_stepped():
    stage = Stage(fast(), joined=False).start().run(0.5)
    assert stage.bridge.frame > 1010
    stage.joined = True
    check_clean(stage.steps(50), 50)
    assert [what for _, what, _ in stage.requests][:2] == [Request.PAUSE, Request.STEP_ONCE]


def test_late_joiner_hears_nothing_from_a_paused_bridge_and_steps_it_after_the_silence():
    stage = Stage(fast(), joined=False).start(paused=True).run(1.0)
    frame, joined_ns = stage.bridge.frame, stage.now_ns
    stage.joined = True
    stage.run(2.4)
    assert stage.requests == [(joined_ns, Request.PAUSE, Phase.PAUSING)]
    check_clean(stage.steps(50), 50)
    assert stage.bridge.frame == frame + 50
    assert 0 <= stage.sent(Request.STEP_ONCE)[0] - (joined_ns + 2.5 * S) < MS


def test_bridge_that_goes_on_ticking_is_asked_again_to_pause():
    stage = Stage(fast(), lost_requests=2, gate_answers=lambda *_: False).start()
    stage.steps(1)
    assert len(stage.sent(Request.PAUSE)) == 3
    assert all(
        later - earlier >= 2.5 * S for earlier, later in pairwise(stage.sent(Request.PAUSE))
    )


def test_nothing_more_is_sent_while_a_step_is_in_flight():
    stage = Stage(fast()).start(paused=True)
    stage.steps(20)
    assert {phase for _, what, phase in stage.requests if what is Request.STEP_ONCE} <= {
        Phase.READY,
        Phase.HOLDING,
    }
    for sent_ns, next_ns in pairwise(stage.sent(Request.STEP_ONCE)):
        assert next_ns - sent_ns >= 2 * MS + 2 * MS  # the tick, and a message either way


@pytest.mark.parametrize('factor', [1.0, 0.5, 4.0])
def test_steps_keep_to_the_real_time_factor(factor):
    stage = Stage(LockstepParams(real_time_factor=factor)).start(paused=True)
    stage.steps(100)
    times = stage.sent(Request.STEP_ONCE)
    assert [t - times[0] for t in times] == [round(i * STEP_NS / factor) for i in range(100)]


@pytest.mark.parametrize('lost', [1, 2])
def test_lost_step_is_sent_again_and_made_once(lost):
    stage = Stage(fast()).start(paused=True)
    stage.steps(3)
    frame = stage.bridge.frame
    stage.lost_requests = lost
    stage.steps(4)
    counts = stage.lockstep.counts
    assert (counts.steps, counts.resent, counts.skipped, counts.uninvited) == (4, lost, 0, 0)
    assert stage.bridge.frame == frame + 1
    *_, before, after = stage.sent(Request.STEP_ONCE)
    assert after - before == 5 * S


def test_step_is_not_sent_again_once_the_frame_has_grown():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is Request.STEP_ONCE
    lockstep.on_status(8, running=True, now_ns=S)
    assert all(lockstep.poll(S + i * MS) is None for i in range(0, 5_000, 50))
    assert lockstep.counts.resent == 0


def test_lost_acknowledgement_is_not_waited_for_for_ever():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is Request.STEP_ONCE
    lockstep.on_status(8, running=True, now_ns=S)
    lockstep.on_clock(10 * S)
    lockstep.on_command('ego_vehicle', 10 * S)
    patience_ns = round(fast().step_timeout_s * S)
    assert lockstep.wake_ns(S) == S + patience_ns
    assert lockstep.poll(S + patience_ns - 1) is None
    assert lockstep.phase is Phase.STEPPING
    assert lockstep.poll(S + patience_ns) is None
    assert lockstep.poll(S + patience_ns) is Request.STEP_ONCE
    assert (lockstep.counts.lost_acknowledgements, lockstep.counts.resent) == (1, 0)


def test_second_frame_within_one_step_is_counted():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is Request.STEP_ONCE
    lockstep.on_status(8, running=True, now_ns=S)
    lockstep.on_status(9, running=True, now_ns=S)
    assert lockstep.counts.uninvited == 1


def test_status_that_was_overtaken_is_no_restart():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is Request.STEP_ONCE
    lockstep.on_status(8, running=True, now_ns=S)
    lockstep.on_status(7, running=True, now_ns=S)
    assert (lockstep.frame, lockstep.phase, lockstep.counts.restarts) == (8, Phase.STEPPING, 0)


@pytest.mark.parametrize('clock_first', [False, True])
def test_restart_is_counted_once_whichever_runs_back_first(clock_first):
    lockstep = paused_lockstep()
    lockstep.on_status(1000, running=True, now_ns=S)
    lockstep.on_clock(100 * S)
    if clock_first:
        lockstep.on_clock(S)
    lockstep.on_status(1, running=True, now_ns=S)
    if not clock_first:
        lockstep.on_clock(S)
    assert lockstep.counts.restarts == 1


def paused_lockstep(params=None):
    """Return a lockstep at frame 7 of a bridge that was just paused."""
    lockstep = Lockstep(params or fast(), STEP_NS)
    assert lockstep.poll(0) is Request.PAUSE
    lockstep.on_status(7, running=True, now_ns=0)
    lockstep.on_status(7, running=False, now_ns=0)
    assert lockstep.phase is Phase.READY
    return lockstep


def test_bridge_is_not_paused_before_it_has_the_vehicles():
    """A bridge that is paused spawns nothing, and would wait for its vehicle for ever."""
    lockstep = Lockstep(fast(), STEP_NS)
    assert lockstep.poll(0, vehicles_present=False, gates_present=False) is None
    lockstep.on_status(7, running=True, now_ns=S)
    assert lockstep.poll(S, vehicles_present=False, gates_present=False) is None
    assert lockstep.phase is Phase.PAUSING
    assert lockstep.poll(2 * S, gates_present=False) is Request.PAUSE


def test_acknowledgement_alone_does_not_end_a_step():
    lockstep = paused_lockstep()
    lockstep.poll(0)
    lockstep.on_status(8, running=True, now_ns=0)
    lockstep.on_clock(100)
    lockstep.on_status(8, running=False, now_ns=0)
    assert lockstep.poll(0) is None
    assert lockstep.missing == {ROLE}
    assert lockstep.counts.early_acknowledgements == 1
    assert lockstep.on_command(ROLE, 100) is Verdict.ACCEPTED
    assert lockstep.poll(0) is Request.STEP_ONCE


def test_command_alone_does_not_end_a_step():
    lockstep = paused_lockstep()
    lockstep.poll(0)
    lockstep.on_status(8, running=True, now_ns=0)
    lockstep.on_clock(100)
    lockstep.on_command(ROLE, 100)
    assert lockstep.poll(0) is None
    lockstep.on_status(8, running=False, now_ns=0)
    assert lockstep.poll(0) is Request.STEP_ONCE
    assert lockstep.counts.early_acknowledgements == 0


def test_acknowledgement_of_the_frame_before_is_none():
    lockstep = paused_lockstep()
    lockstep.poll(0)
    lockstep.on_status(7, running=False, now_ns=0)  # a duplicate from the pause
    assert lockstep.phase is Phase.STEPPING


def test_command_for_the_frame_before_does_not_end_a_step():
    lockstep = paused_lockstep()
    lockstep.on_clock(50)
    lockstep.on_command(ROLE, 50)
    lockstep.poll(0)
    lockstep.on_status(8, running=True, now_ns=0)
    lockstep.on_status(8, running=False, now_ns=0)
    assert lockstep.poll(0) is None  # the clock of frame 8 is still under way
    lockstep.on_clock(100)
    assert lockstep.on_command(ROLE, 50) is Verdict.STALE
    assert lockstep.poll(0) is None


def test_missing_command_is_waited_for_counted_and_left_behind():
    silent_ns = 10 * S + 3 * STEP_NS
    stage = Stage(fast(), gate_answers=lambda _, stamp_ns: stamp_ns != silent_ns)
    stage.start(paused=True).steps(5)
    counts = stage.lockstep.counts
    assert (counts.no_command, counts.steps, counts.resent, counts.skipped) == (1, 5, 0, 0)
    assert [missing for _, missing in stage.bridge.ticks] == [set(), set(), {ROLE}, set(), set()]
    waited_ns = [b - a for a, b in pairwise(stage.sent(Request.STEP_ONCE))]
    assert waited_ns[2] >= S + 1.5 * S  # the bridge's own wait, then ours
    assert max(waited_ns[:2] + waited_ns[3:]) < S


def test_paused_bridge_stays_paused_while_gates_are_absent():
    stage = Stage(fast(), gates_present=False).start()
    stage.run(60.0)
    assert {what for _, what, _ in stage.requests} <= {Request.PAUSE}
    stage.gates_present = True
    stage.steps(5)
    stage.gates_present = False
    frame = stage.bridge.frame
    stage.run(60.0)
    assert stage.bridge.frame == frame
    stage.gates_present = True
    stage.steps(10)
    assert stage.bridge.frame == frame + 5


def test_both_roles_must_answer():
    params = fast(role_names=('hero', ROLE))
    check_clean(Stage(params).start(paused=True).steps(20), 20)
    stage = Stage(params, gate_answers=lambda role, _: role == 'hero').start(paused=True)
    stage.steps(3)
    assert stage.lockstep.counts.no_command == 3
    assert [missing for _, missing in stage.bridge.ticks] == [{ROLE}] * 3


def test_lockstep_ends_after_max_frames():
    stage = Stage(fast(max_frames=7)).start().run(30.0)
    assert stage.lockstep.phase is Phase.DONE
    assert len(stage.sent(Request.STEP_ONCE)) == 7
    assert stage.lockstep.wake_ns(stage.now_ns) is None
    assert stage.lockstep.poll(stage.now_ns) is None


def test_stop_ends_at_once():
    lockstep = paused_lockstep()
    lockstep.stop()
    assert lockstep.poll(0) is None
    lockstep.on_status(1, running=True, now_ns=0)  # even if the bridge is restarted
    assert lockstep.phase is Phase.DONE


def test_frames_that_nobody_asked_for_are_counted():
    lockstep = paused_lockstep()
    lockstep.on_status(8, running=True, now_ns=0)  # somebody else stepped or played
    assert (lockstep.counts.uninvited, lockstep.counts.skipped) == (1, 0)


def test_frames_that_were_jumped_over_are_counted():
    lockstep = paused_lockstep()
    lockstep.poll(0)
    lockstep.on_status(11, running=True, now_ns=0)
    assert (lockstep.counts.uninvited, lockstep.counts.skipped) == (0, 3)


def test_frames_while_it_is_being_paused_are_nobodys_fault():
    stage = Stage(fast()).start()
    stage.run(3.0, lambda s: s.lockstep.phase is Phase.READY)
    assert (stage.lockstep.counts.uninvited, stage.lockstep.counts.skipped) == (0, 0)


@pytest.mark.parametrize('paused', [False, True])
@pytest.mark.parametrize(('frame', 'stamp_ns'), [(1, 0), (1, 500 * S)])
def test_restarted_bridge_is_paused_and_stepped_anew(paused, frame, stamp_ns):
    stage = Stage(fast()).start()
    stage.steps(5)
    stage.start(frame=frame, stamp_ns=stamp_ns, paused=paused)
    assert stage.bridge.frame < 1000
    stage.run(0.01)  # a paused one has told its status before anybody asks
    before = stage.lockstep.counts.steps
    stage.steps(before + 10)
    assert stage.lockstep.counts.restarts == 1
    stepped = stage.bridge.ticks[-10:]
    assert not any(missing for _, missing in stepped[1:])
    assert stage.lockstep.frame == stage.bridge.frame
    assert stage.lockstep.stamp_ns == stage.bridge.stamp_ns


def test_clock_that_runs_back_alone_is_a_restart():
    lockstep = paused_lockstep()
    lockstep.on_clock(100 * S)
    lockstep.on_clock(99 * S)
    assert (lockstep.phase, lockstep.counts.restarts) == (Phase.PAUSING, 1)
    assert lockstep.stamp_ns == 99 * S
    assert lockstep.poll(0) is Request.PAUSE
    lockstep.on_clock(99 * S + STEP_NS)
    assert lockstep.counts.restarts == 1


@pytest.mark.parametrize('back_ns', [0, 1, MS, S // 2])
def test_repeated_or_slightly_older_clock_says_nothing_new(back_ns):
    lockstep = paused_lockstep()
    lockstep.on_clock(100 * S)
    lockstep.on_clock(100 * S - back_ns)
    assert (lockstep.phase, lockstep.counts.restarts) == (Phase.READY, 0)
    assert lockstep.stamp_ns == 100 * S


@pytest.mark.parametrize('copies', [2, 10])
@pytest.mark.parametrize('paused', [False, True])
def test_duplicated_messages_cause_exactly_one_step_per_frame(copies, paused):
    stage = Stage(fast(), copies=copies).start(paused=paused)
    stage.steps(50)
    check_clean(stage, 50)
    assert stage.lockstep.counts.restarts == 0
    assert stage.lockstep.counts.repeated + stage.verdicts.count(Verdict.STALE) > 0


@settings(deadline=None, max_examples=50)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 2]), st.booleans())
def test_topics_that_overtake_each_other_do_not_break_the_lockstep(random, copies, paused):
    stage = Stage(fast(), copies, delay_ns=lambda _: random.randrange(1, 200 * MS))
    stage.start(paused=paused).steps(20)
    check_clean(stage, 20)
    assert stage.lockstep.counts.restarts == 0


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(1, 20), max_size=6))
def test_every_unanswered_frame_is_counted_once(silent):
    silent_ns = {10 * S + i * STEP_NS for i in silent}
    stage = Stage(fast(), gate_answers=lambda _, stamp_ns: stamp_ns not in silent_ns)
    stage.start(paused=True).steps(20, seconds=200.0)
    counts = stage.lockstep.counts
    assert (counts.steps, counts.no_command) == (20, len(silent))
    assert [i for i, (_, missing) in enumerate(stage.bridge.ticks, 1) if missing] == sorted(silent)


@pytest.mark.parametrize('roles', [(), ('',), ('a', 'a'), ('a', '')])
def test_roles_must_be_named_and_unique(roles):
    with pytest.raises(ParameterError, match='role_names must be non-empty and unique'):
        LockstepParams(role_names=roles)


class TestWhatIsLost:
    """A message of the bridge that never comes: no step twice, and it is told."""

    @staticmethod
    def stepping(now_ns=S, **params):
        """Return a lockstep that has just sent its second step; frame 11 was the first."""
        lockstep = Lockstep(LockstepParams(real_time_factor=0.0, **params), STEP_NS)
        lockstep.poll(now_ns)
        lockstep.on_status(10, running=False, now_ns=now_ns)
        assert lockstep.poll(now_ns) is Request.STEP_ONCE
        lockstep.on_status(11, running=True, now_ns=now_ns)
        lockstep.on_clock(11 * STEP_NS)
        lockstep.on_command(ROLE, 11 * STEP_NS)
        lockstep.on_status(11, running=False, now_ns=now_ns)
        assert lockstep.poll(now_ns) is Request.STEP_ONCE
        return lockstep

    def test_frame_without_a_clock_is_opened_by_its_odometry_and_waits(self):
        lockstep = self.stepping()
        lockstep.on_motion(12 * STEP_NS)
        lockstep.on_command(ROLE, 12 * STEP_NS)
        lockstep.on_status(12, running=False, now_ns=S)
        assert lockstep.stamp_ns == 12 * STEP_NS
        assert not lockstep.missing
        assert lockstep.poll(S) is None
        assert lockstep.phase is Phase.HOLDING
        assert lockstep.trouble(S + S // 4) == ''
        assert lockstep.trouble(S + S) == 'frame 12 has no /clock: does the bridge publish it?'
        lockstep.poll(S + 2 * S, gates_present=False)
        assert lockstep.phase is Phase.READY
        assert lockstep.counts.no_clock == 1

    def test_odometry_that_overtakes_its_clock_costs_nothing(self):
        lockstep = self.stepping()
        lockstep.on_motion(12 * STEP_NS)
        lockstep.on_clock(12 * STEP_NS)
        lockstep.on_command(ROLE, 12 * STEP_NS)
        lockstep.on_status(12, running=False, now_ns=S)
        lockstep.poll(S, gates_present=False)
        assert lockstep.phase is Phase.READY
        assert lockstep.counts.no_clock == 0

    def test_odometry_alone_does_not_begin_a_drive_nor_take_time_back(self):
        lockstep = Lockstep(LockstepParams(), STEP_NS)
        lockstep.on_motion(5 * STEP_NS)
        assert lockstep.stamp_ns is None
        lockstep.on_clock(100 * STEP_NS)
        lockstep.on_motion(STEP_NS)
        assert lockstep.stamp_ns == 100 * STEP_NS
        assert lockstep.counts.restarts == 0

    def test_step_is_not_sent_again_when_time_has_grown(self):
        """All statuses are lost, but the clock has told of the tick."""
        lockstep = self.stepping(step_timeout_s=2.0)
        lockstep.on_clock(12 * STEP_NS)
        lockstep.on_command(ROLE, 12 * STEP_NS)
        assert 'not acknowledged on /carla/status' in lockstep.trouble(S + S)
        assert lockstep.poll(S + 3 * S) is None
        assert (lockstep.counts.resent, lockstep.counts.lost_acknowledgements) == (0, 1)
        assert lockstep.frame == 12
        lockstep.on_status(12, running=False, now_ns=4 * S)  # late: it says nothing new
        assert lockstep.counts.uninvited == lockstep.counts.skipped == 0

    def test_step_that_was_lost_is_sent_again(self):
        lockstep = self.stepping(step_timeout_s=2.0)
        assert 'STEP_ONCE has no effect, 0 sent again' in lockstep.trouble(S + S)
        assert lockstep.poll(S + 3 * S) is Request.STEP_ONCE
        assert lockstep.counts.resent == 1

    def test_frame_in_which_time_runs_back_is_closed_like_any_other(self):
        lockstep = self.stepping()
        lockstep.on_status(12, running=True, now_ns=S)
        lockstep.on_clock(1)
        assert lockstep.phase is Phase.PAUSING
        lockstep.poll(S)
        lockstep.on_status(12, running=False, now_ns=S)
        assert lockstep.phase is Phase.HOLDING
        lockstep.on_command(ROLE, lockstep.stamp_ns)
        lockstep.poll(S, gates_present=False)
        assert lockstep.phase is Phase.READY
        assert lockstep.counts.restarts == 1


class TestTakenBack:
    """A bridge that ticks by itself is paused again, and every frame of that is counted."""

    @staticmethod
    def playing(lockstep, first_frame, seconds, *, clocks=True):
        """Feed the statuses of a bridge that plays and does not listen; return the requests."""
        requests = []
        for i in range(round(seconds * 20)):
            now_ns, frame = S + i * STEP_NS, first_frame + i
            lockstep.on_status(frame, running=True, now_ns=now_ns)
            if clocks:
                lockstep.on_clock(frame * STEP_NS)
            requests.append((now_ns, lockstep.poll(now_ns)))
        return [(now_ns, what) for now_ns, what in requests if what is not None]

    @pytest.mark.parametrize('clocks', [True, False])
    def test_playing_bridge_is_paused_at_its_second_frame_and_again_and_again(self, clocks):
        lockstep = paused_lockstep()
        assert lockstep.poll(S) is Request.STEP_ONCE
        requests = self.playing(lockstep, 8, 100.0, clocks=clocks)
        assert {what for _, what in requests} == {Request.PAUSE}
        assert requests[0][0] == S + STEP_NS
        assert len(requests) == 40
        assert lockstep.counts.uninvited == 2000 - 1
        assert '1999 frames without a step' in lockstep.interruption(101 * S)
        lockstep.on_status(2007, running=False, now_ns=101 * S)
        assert lockstep.poll(101 * S) is Request.STEP_ONCE
        assert 'went on by itself' in lockstep.interruption(102 * S)
        assert lockstep.interruption(104 * S) == ''

    def test_bridge_that_plays_between_two_steps_is_paused_at_once(self):
        lockstep = paused_lockstep(LockstepParams())
        lockstep.poll(S, gates_present=False)
        requests = self.playing(lockstep, 8, 1.0)
        assert requests == [(S, Request.PAUSE)]
        assert lockstep.counts.uninvited == 20

    def test_bridge_that_plays_while_a_command_is_waited_for_is_paused_at_once(self):
        lockstep = paused_lockstep()
        lockstep.poll(S)
        lockstep.on_status(8, running=True, now_ns=S)
        lockstep.on_clock(8 * STEP_NS)
        lockstep.on_status(8, running=False, now_ns=S)
        assert lockstep.phase is Phase.HOLDING
        assert self.playing(lockstep, 9, 1.0) == [(S, Request.PAUSE)]
        assert lockstep.counts.uninvited == 20

    def test_running_long_after_the_tick_is_no_single_step(self):
        lockstep = paused_lockstep()
        lockstep.poll(S)
        requests = []
        for i in range(100):
            lockstep.on_status(8, running=True, now_ns=S + i * 100 * MS)
            requests.append(lockstep.poll(S + i * 100 * MS))
        assert Request.PAUSE in requests[: round(fast().pause_timeout_s * 10) + 3]

    def test_two_frames_told_by_clock_alone_are_no_single_step(self):
        lockstep = paused_lockstep()
        lockstep.on_clock(7 * STEP_NS)
        lockstep.poll(S)
        lockstep.on_clock(8 * STEP_NS)
        assert lockstep.poll(S) is None
        lockstep.on_clock(9 * STEP_NS)
        assert lockstep.poll(S) is Request.PAUSE

    @pytest.mark.parametrize('frame', [8, 9])
    def test_second_clock_of_a_step_is_entered_with_the_frames_that_a_status_tells(self, frame):
        lockstep = paused_lockstep()
        lockstep.on_clock(7 * STEP_NS)
        lockstep.poll(S)
        lockstep.on_clock(8 * STEP_NS)
        lockstep.on_clock(9 * STEP_NS)
        assert lockstep.poll(S) is Request.PAUSE
        lockstep.on_status(frame, running=False, now_ns=S)
        breaks = [one for one in lockstep.take_ended() if isinstance(one, Break)]
        assert [one.frames for one in breaks] == [1] * (frame - 8)

    def test_frame_of_the_step_is_entered_before_those_that_ran_freely(self):
        lockstep = paused_lockstep()
        lockstep.on_clock(7 * STEP_NS)
        lockstep.poll(S)
        self.playing(lockstep, 8, 1.0)
        lockstep.on_status(27, running=False, now_ns=3 * S)
        ours, ran_free = lockstep.take_ended()
        assert ours == EndedFrame(8, 8 * STEP_NS)
        assert ran_free == Break(Cause.FREE_RUNNING, 19, 27 * STEP_NS)
        assert lockstep.take_ended() == []

    @pytest.mark.parametrize('phase', list(Phase)[:-1])
    def test_restart_is_entered_once_it_is_over_whatever_the_phase(self, phase):
        lockstep = paused_lockstep()
        lockstep.phase = phase
        lockstep.restart()
        assert lockstep.poll(S, vehicles_present=False) is None
        lockstep.on_status(0, running=True, now_ns=S)
        lockstep.on_status(5124, running=True, now_ns=S)  # upstream says 0 before its first tick
        lockstep.on_clock(100 * S)
        assert lockstep.poll(S) is Request.PAUSE
        lockstep.on_status(5124, running=False, now_ns=S)
        assert lockstep.take_ended() == [Break(Cause.RESTARTED, 1, 100 * S)]
        assert (lockstep.counts.skipped, lockstep.counts.restarts) == (0, 1)

    @pytest.mark.parametrize('paused', [False, True])
    @pytest.mark.parametrize('plays', [1, 20])
    def test_play_of_a_stranger(self, plays, paused):
        stage = Stage(fast()).start(paused=paused).steps(10)
        for _ in range(plays):
            stage.send('control', 'play')
        stage.run(0.5)
        stage.steps(40)
        stage.run(1.0)
        free = stage.lockstep.counts.uninvited + stage.lockstep.counts.skipped
        assert free == stage.bridge.frame - stage.frame_before_steps - 40 > 0

    kinds = ('play', 'plays', 'step', 'pause', 'same world', 'new world', 'paused world')
    losses = ('lose control', 'lose status', 'lose clock', 'lose command')
    # What happens, and how long it is until the next [ms].
    disturbance = st.tuples(st.sampled_from(kinds + losses), st.integers(0, 2000))

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(disturbance, min_size=1, max_size=12),
        st.integers(0, 99),
        st.sampled_from([0.0, 1.0]),
    )
    def test_whatever_happens_it_steps_again_and_nothing_runs_uncounted(
        self, disturbances, seed, factor
    ):
        random = Random(seed)
        params = LockstepParams(real_time_factor=factor, step_timeout_s=2.0)
        stage = Stage(params, delay_ns=lambda _: random.randrange(1, 20 * MS))
        stage.start().run(1.0)
        known = True  # whether every frame of the bridges can be told
        for kind, wait_ms in disturbances:
            self.disturb(stage, kind)
            known = known and 'world' not in kind
            stage.run(wait_ms / 1000.0)
        stage.lost.clear()
        stage.run(10.0)
        steps = stage.lockstep.counts.steps + 10
        frame = stage.steps(steps, 2.0).bridge.frame
        stage.steps(steps + 20, 2.0)
        assert stage.lockstep.counts.steps == steps + 20
        assert stage.bridge.frame == frame + 20
        if known:
            counts = stage.lockstep.counts
            free = counts.uninvited + counts.skipped
            assert stage.bridge.frame - stage.frame_before_steps == counts.steps + free

    @staticmethod
    def disturb(stage, kind):
        bridge = stage.bridge
        if kind in {'new world', 'paused world'} and stage.lockstep.frame in range(5):
            stage.lockstep.restart()  # its count alone looks like reordering; the graph tells
        if kind.startswith('lose'):
            topic = kind.split()[1]
            stage.lost[topic] = stage.lost.get(topic, 0) + 1
        elif kind == 'same world':
            stage.start(frame=bridge.frame + 37, stamp_ns=bridge.stamp_ns + 37 * STEP_NS)
        elif kind == 'new world':
            stage.start(frame=0, stamp_ns=S)
        elif kind == 'paused world':
            stage.start(frame=0, stamp_ns=S, paused=True)
        else:
            for _ in range(20 if kind == 'plays' else 1):
                stage.send('control', kind.rstrip('s'))


class TestIdleTicks:
    """A bridge that has to tick before everything is there gets ticks, slowly."""

    @staticmethod
    def wait(lockstep, ticks, now_ns=S, **missing):
        """Let a lockstep wait for something over so many idle ticks; return when they were."""
        sent = []
        while len(sent) < ticks:
            now_ns += 10 * MS
            assert now_ns < 100 * S
            if lockstep.poll(now_ns, **missing) is not Request.STEP_ONCE:
                continue
            sent.append(now_ns)
            frame, stamp_ns = lockstep.frame + 1, (lockstep.frame + 1) * STEP_NS
            lockstep.on_status(frame, running=True, now_ns=now_ns)
            lockstep.on_clock(stamp_ns)
            lockstep.on_status(frame, running=False, now_ns=now_ns)
            lockstep.on_command(ROLE, stamp_ns)  # the gate brakes
        return sent

    @pytest.mark.parametrize(
        'missing',
        [
            {'vehicles_present': False, 'gates_present': False},
            {'gates_present': False, 'needs_ticks': True},
        ],
    )
    @pytest.mark.parametrize('factor', [0.0, 1.0])
    def test_ticks_come_slowly_and_are_no_frames_of_the_drive(self, missing, factor):
        lockstep = paused_lockstep(LockstepParams(real_time_factor=factor, max_frames=1))
        sent = self.wait(lockstep, 20, **missing)
        assert all(460 * MS <= later - earlier <= 540 * MS for earlier, later in pairwise(sent))
        assert (lockstep.counts.idle, lockstep.counts.steps) == (20, 0)
        lockstep.poll(sent[-1], **missing)
        ended = lockstep.take_ended()
        assert ended == [EndedFrame(8 + i, (8 + i) * STEP_NS, is_idle=True) for i in range(20)]
        assert lockstep.poll(sent[-1] + 10 * MS) is Request.STEP_ONCE  # there at last
        assert lockstep.counts.steps == 1

    def test_none_are_sent_where_none_are_wanted(self):
        lockstep = paused_lockstep(fast(idle_period_s=0.0))
        missing = {'vehicles_present': False, 'gates_present': False}
        assert not any(lockstep.poll(S + i * 100 * MS, **missing) for i in range(1000))

    def test_no_tick_while_a_person_is_waited_for(self):
        lockstep = paused_lockstep()
        for i in range(1000):
            assert lockstep.poll(S + i * 100 * MS, gates_present=False) is None

    def test_silent_bridge_without_a_vehicle_is_taken_for_paused(self):
        """Left paused by the drive before: nobody says so, and nothing would be spawned."""
        lockstep = Lockstep(fast(), STEP_NS)
        missing = {'vehicles_present': False, 'gates_present': False}
        requests = [lockstep.poll(i * 100 * MS, **missing) for i in range(60)]
        assert requests.count(Request.STEP_ONCE) == 1
        assert Request.PAUSE not in requests

    def test_bridge_that_only_was_slow_to_play_owes_nothing(self):
        """It was taken for paused, and is not: no frame of that time is one of ours."""
        lockstep = Lockstep(fast(), STEP_NS)
        missing = {'vehicles_present': False, 'gates_present': False}
        lockstep.on_status(1, running=True, now_ns=0)
        assert Request.STEP_ONCE in [lockstep.poll(i * 100 * MS, **missing) for i in range(60)]
        for frame in range(2, 40):  # the step is under way, or lost
            lockstep.on_status(frame, running=True, now_ns=6 * S)
            lockstep.on_clock(frame * STEP_NS)
            assert lockstep.poll(6 * S, **missing) is None
        assert lockstep.phase is Phase.PAUSING
        assert lockstep.poll(6 * S) is Request.PAUSE
        lockstep.on_status(40, running=False, now_ns=6 * S)
        assert lockstep.take_ended() == []
        assert (lockstep.counts.uninvited, lockstep.counts.skipped) == (0, 0)

    def test_bridge_without_a_vehicle_may_play(self):
        lockstep = Lockstep(fast(), STEP_NS)
        for i in range(1000):
            lockstep.on_status(i, running=True, now_ns=i * 50 * MS)
            missing = {'vehicles_present': False, 'gates_present': False}
            assert lockstep.poll(i * 50 * MS, **missing) is None
        assert lockstep.counts.uninvited == 0

    def test_idle_tick_that_nobody_answers_is_no_trouble(self):
        lockstep = paused_lockstep()
        missing = {'vehicles_present': False, 'gates_present': False}
        lockstep.poll(S, **missing)
        assert lockstep.poll(3 * S, **missing) is Request.STEP_ONCE
        lockstep.on_status(8, running=True, now_ns=3 * S)
        lockstep.on_clock(8 * STEP_NS)
        lockstep.on_status(8, running=False, now_ns=3 * S)
        assert lockstep.trouble(4 * S) == ''
        assert lockstep.poll(5 * S, **missing) is Request.STEP_ONCE
        assert lockstep.counts.no_command == 0

    def test_play_during_idle_ticks_is_taken_back(self):
        lockstep = paused_lockstep()
        missing = {'gates_present': False, 'needs_ticks': True}
        (sent_ns,) = self.wait(lockstep, 1, **missing)
        assert lockstep.poll(sent_ns, **missing) is None
        lockstep.on_status(9, running=True, now_ns=sent_ns)
        assert lockstep.poll(sent_ns, **missing) is Request.PAUSE


ARROWS = {key: phase for key, (phase, _) in Lockstep.TRANSITIONS.items()}


class TestTable:
    """What the table of phases and events promises, whatever its actions do."""

    @pytest.mark.parametrize('event', [Event.WENT_ON, Event.RESTARTED])
    def test_a_bridge_that_is_not_ours_any_more_is_paused_whatever_the_phase(self, event):
        for phase in set(Phase) - {Phase.DONE}:
            assert ARROWS.get((phase, event), phase) is Phase.PAUSING

    def test_only_a_ready_lockstep_begins_a_step_and_the_end_is_final(self):
        assert {at for (at, _), to in ARROWS.items() if to is Phase.STEPPING} == {Phase.READY}
        assert {to for (at, _), to in ARROWS.items() if at is Phase.DONE} == {Phase.DONE}

    def test_every_phase_but_the_end_leads_back_to_ready_and_to_the_end(self):
        for phase in set(Phase) - {Phase.DONE}:
            found = {phase}
            while more := {to for (at, _), to in ARROWS.items() if at in found} - found:
                found |= more
            assert {Phase.READY, Phase.DONE} <= found
