# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lockstep with messages that are lost, bridges that tick by themselves, and idle ticks."""

from itertools import pairwise
from random import Random

from harness.stage import MS, ROLE, STEP_NS, S, Stage, fast, paused_lockstep
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from td3_agent.driving.lockstep import Event, Lockstep, Phase
from td3_agent.driving.stepping import (
    Break,
    BridgeRequest,
    Cause,
    EndedFrame,
    LockstepParams,
)


class TestWhatIsLost:
    """A message of the bridge that never comes: no step twice, and it is told."""

    @staticmethod
    def stepping(now_ns=S, **params):
        """Return a lockstep that has just sent its second step; frame 11 was the first."""
        lockstep = Lockstep(LockstepParams(real_time_factor=0.0, **params), STEP_NS)
        lockstep.poll(now_ns)
        lockstep.on_status(10, running=False, now_ns=now_ns)
        assert lockstep.poll(now_ns) is BridgeRequest.STEP_ONCE
        lockstep.on_status(11, running=True, now_ns=now_ns)
        lockstep.on_clock(11 * STEP_NS)
        lockstep.on_command(ROLE, 11 * STEP_NS)
        lockstep.on_status(11, running=False, now_ns=now_ns)
        assert lockstep.poll(now_ns) is BridgeRequest.STEP_ONCE
        return lockstep

    def test_frame_without_a_clock_is_opened_by_its_odometry_and_waits(self):
        lockstep = self.stepping()
        lockstep.on_motion(12 * STEP_NS)
        lockstep.on_command(ROLE, 12 * STEP_NS)
        lockstep.on_status(12, running=False, now_ns=S)
        assert lockstep.stamp_ns == 12 * STEP_NS
        assert not lockstep.missing
        assert lockstep.poll(S) is None
        assert lockstep.phase is Phase.WAITING
        assert lockstep.fault(S + S // 4) == ''
        assert lockstep.fault(S + S) == 'frame 12 has no /clock: does the bridge publish it?'
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
        assert 'not acknowledged on /carla/status' in lockstep.fault(S + S)
        assert lockstep.poll(S + 3 * S) is None
        assert (lockstep.counts.resent, lockstep.counts.lost_acknowledgements) == (0, 1)
        assert lockstep.frame == 12
        lockstep.on_status(12, running=False, now_ns=4 * S)  # late: it says nothing new
        assert lockstep.counts.uninvited == lockstep.counts.skipped == 0

    def test_step_that_was_lost_is_sent_again(self):
        lockstep = self.stepping(step_timeout_s=2.0)
        assert 'STEP_ONCE has no effect, 0 sent again' in lockstep.fault(S + S)
        assert lockstep.poll(S + 3 * S) is BridgeRequest.STEP_ONCE
        assert lockstep.counts.resent == 1

    def test_frame_in_which_time_runs_back_is_closed_like_any_other(self):
        lockstep = self.stepping()
        lockstep.on_status(12, running=True, now_ns=S)
        lockstep.on_clock(1)
        assert lockstep.phase is Phase.PAUSING
        lockstep.poll(S)
        lockstep.on_status(12, running=False, now_ns=S)
        assert lockstep.phase is Phase.WAITING
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
        assert lockstep.poll(S) is BridgeRequest.STEP_ONCE
        requests = self.playing(lockstep, 8, 100.0, clocks=clocks)
        assert {what for _, what in requests} == {BridgeRequest.PAUSE}
        assert requests[0][0] == S + STEP_NS
        assert len(requests) == 40
        assert lockstep.counts.uninvited == 2000 - 1
        assert '1999 frames without a step' in lockstep.interruption(101 * S)
        lockstep.on_status(2007, running=False, now_ns=101 * S)
        assert lockstep.poll(101 * S) is BridgeRequest.STEP_ONCE
        assert 'went on by itself' in lockstep.interruption(102 * S)
        assert lockstep.interruption(104 * S) == ''

    def test_bridge_that_plays_between_two_steps_is_paused_at_once(self):
        lockstep = paused_lockstep(LockstepParams())
        lockstep.poll(S, gates_present=False)
        requests = self.playing(lockstep, 8, 1.0)
        assert requests == [(S, BridgeRequest.PAUSE)]
        assert lockstep.counts.uninvited == 20

    def test_bridge_that_plays_while_a_command_is_waited_for_is_paused_at_once(self):
        lockstep = paused_lockstep()
        lockstep.poll(S)
        lockstep.on_status(8, running=True, now_ns=S)
        lockstep.on_clock(8 * STEP_NS)
        lockstep.on_status(8, running=False, now_ns=S)
        assert lockstep.phase is Phase.WAITING
        assert self.playing(lockstep, 9, 1.0) == [(S, BridgeRequest.PAUSE)]
        assert lockstep.counts.uninvited == 20

    def test_running_long_after_the_tick_is_no_single_step(self):
        lockstep = paused_lockstep()
        lockstep.poll(S)
        requests = []
        for i in range(100):
            lockstep.on_status(8, running=True, now_ns=S + i * 100 * MS)
            requests.append(lockstep.poll(S + i * 100 * MS))
        assert BridgeRequest.PAUSE in requests[: round(fast().pause_timeout_s * 10) + 3]

    def test_two_frames_told_by_clock_alone_are_no_single_step(self):
        lockstep = paused_lockstep()
        lockstep.on_clock(7 * STEP_NS)
        lockstep.poll(S)
        lockstep.on_clock(8 * STEP_NS)
        assert lockstep.poll(S) is None
        lockstep.on_clock(9 * STEP_NS)
        assert lockstep.poll(S) is BridgeRequest.PAUSE

    @pytest.mark.parametrize('frame', [8, 9])
    def test_second_clock_of_a_step_is_entered_with_the_frames_that_a_status_tells(self, frame):
        lockstep = paused_lockstep()
        lockstep.on_clock(7 * STEP_NS)
        lockstep.poll(S)
        lockstep.on_clock(8 * STEP_NS)
        lockstep.on_clock(9 * STEP_NS)
        assert lockstep.poll(S) is BridgeRequest.PAUSE
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
        assert lockstep.poll(S) is BridgeRequest.PAUSE
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

    @settings(max_examples=60)
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
            if lockstep.poll(now_ns, **missing) is not BridgeRequest.STEP_ONCE:
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
        assert lockstep.poll(sent[-1] + 10 * MS) is BridgeRequest.STEP_ONCE  # there at last
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
        assert requests.count(BridgeRequest.STEP_ONCE) == 1
        assert BridgeRequest.PAUSE not in requests

    def test_bridge_that_only_was_slow_to_play_owes_nothing(self):
        """It was taken for paused, and is not: no frame of that time is one of ours."""
        lockstep = Lockstep(fast(), STEP_NS)
        missing = {'vehicles_present': False, 'gates_present': False}
        lockstep.on_status(1, running=True, now_ns=0)
        asked = [lockstep.poll(i * 100 * MS, **missing) for i in range(60)]
        assert BridgeRequest.STEP_ONCE in asked
        for frame in range(2, 40):  # the step is under way, or lost
            lockstep.on_status(frame, running=True, now_ns=6 * S)
            lockstep.on_clock(frame * STEP_NS)
            assert lockstep.poll(6 * S, **missing) is None
        assert lockstep.phase is Phase.PAUSING
        assert lockstep.poll(6 * S) is BridgeRequest.PAUSE
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
        assert lockstep.poll(3 * S, **missing) is BridgeRequest.STEP_ONCE
        lockstep.on_status(8, running=True, now_ns=3 * S)
        lockstep.on_clock(8 * STEP_NS)
        lockstep.on_status(8, running=False, now_ns=3 * S)
        assert lockstep.fault(4 * S) == ''
        assert lockstep.poll(5 * S, **missing) is BridgeRequest.STEP_ONCE
        assert lockstep.counts.no_command == 0

    def test_play_during_idle_ticks_is_taken_back(self):
        lockstep = paused_lockstep()
        missing = {'gates_present': False, 'needs_ticks': True}
        (sent_ns,) = self.wait(lockstep, 1, **missing)
        assert lockstep.poll(sent_ns, **missing) is None
        lockstep.on_status(9, running=True, now_ns=sent_ns)
        assert lockstep.poll(sent_ns, **missing) is BridgeRequest.PAUSE


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
