# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lockstep against a small bridge that pauses, steps and keeps silent as CARLA's does."""

from itertools import pairwise

from harness.stage import MS, ROLE, STEP_NS, S, Stage, fast, paused_lockstep
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from td3_agent.driving.lockstep import Lockstep, Phase
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.stepping import (
    BridgeRequest,
    LockstepParams,
    Verdict,
)


def check_clean(stage, steps):
    """One STEP_ONCE, one frame and one command of every role per step, and nothing else."""
    counts = stage.lockstep.counts
    assert counts.steps == steps
    assert len(stage.sent(BridgeRequest.STEP_ONCE)) == steps
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
    assert [what for _, what, _ in stage.requests][:2] == [
        BridgeRequest.PAUSE,
        BridgeRequest.STEP_ONCE,
    ]


def test_late_joiner_hears_nothing_from_a_paused_bridge_and_steps_it_after_the_silence():
    stage = Stage(fast(), joined=False).start(paused=True).run(1.0)
    frame, joined_ns = stage.bridge.frame, stage.now_ns
    stage.joined = True
    stage.run(2.4)
    assert stage.requests == [(joined_ns, BridgeRequest.PAUSE, Phase.PAUSING)]
    check_clean(stage.steps(50), 50)
    assert stage.bridge.frame == frame + 50
    assert 0 <= stage.sent(BridgeRequest.STEP_ONCE)[0] - (joined_ns + 2.5 * S) < MS


def test_bridge_that_goes_on_ticking_is_asked_again_to_pause():
    stage = Stage(fast(), lost_requests=2, gate_answers=lambda *_: False).start()
    stage.steps(1)
    assert len(stage.sent(BridgeRequest.PAUSE)) == 3
    assert all(
        later - earlier >= 2.5 * S for earlier, later in pairwise(stage.sent(BridgeRequest.PAUSE))
    )


def test_nothing_more_is_sent_while_a_step_is_in_flight():
    stage = Stage(fast()).start(paused=True)
    stage.steps(20)
    assert {phase for _, what, phase in stage.requests if what is BridgeRequest.STEP_ONCE} <= {
        Phase.READY,
        Phase.WAITING,
    }
    for sent_ns, next_ns in pairwise(stage.sent(BridgeRequest.STEP_ONCE)):
        assert next_ns - sent_ns >= 2 * MS + 2 * MS  # the tick, and a message either way


@pytest.mark.parametrize('factor', [1.0, 0.5, 4.0])
def test_steps_keep_to_the_real_time_factor(factor):
    stage = Stage(LockstepParams(real_time_factor=factor)).start(paused=True)
    stage.steps(100)
    times = stage.sent(BridgeRequest.STEP_ONCE)
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
    *_, before, after = stage.sent(BridgeRequest.STEP_ONCE)
    assert after - before == 5 * S


def test_step_is_not_sent_again_once_the_frame_has_grown():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is BridgeRequest.STEP_ONCE
    lockstep.on_status(8, running=True, now_ns=S)
    assert all(lockstep.poll(S + i * MS) is None for i in range(0, 5_000, 50))
    assert lockstep.counts.resent == 0


def test_lost_acknowledgement_is_not_waited_for_for_ever():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is BridgeRequest.STEP_ONCE
    lockstep.on_status(8, running=True, now_ns=S)
    lockstep.on_clock(10 * S)
    lockstep.on_command('ego_vehicle', 10 * S)
    patience_ns = round(fast().step_timeout_s * S)
    assert lockstep.wake_ns(S) == S + patience_ns
    assert lockstep.poll(S + patience_ns - 1) is None
    assert lockstep.phase is Phase.STEPPING
    assert lockstep.poll(S + patience_ns) is None
    assert lockstep.poll(S + patience_ns) is BridgeRequest.STEP_ONCE
    assert (lockstep.counts.lost_acknowledgements, lockstep.counts.resent) == (1, 0)


def test_second_frame_within_one_step_is_counted():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is BridgeRequest.STEP_ONCE
    lockstep.on_status(8, running=True, now_ns=S)
    lockstep.on_status(9, running=True, now_ns=S)
    assert lockstep.counts.uninvited == 1


def test_status_that_was_overtaken_is_no_restart():
    lockstep = paused_lockstep()
    assert lockstep.poll(S) is BridgeRequest.STEP_ONCE
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


def test_bridge_is_not_paused_before_it_has_the_vehicles():
    """A bridge that is paused spawns nothing, and would wait for its vehicle for ever."""
    lockstep = Lockstep(fast(), STEP_NS)
    assert lockstep.poll(0, vehicles_present=False, gates_present=False) is None
    lockstep.on_status(7, running=True, now_ns=S)
    assert lockstep.poll(S, vehicles_present=False, gates_present=False) is None
    assert lockstep.phase is Phase.PAUSING
    assert lockstep.poll(2 * S, gates_present=False) is BridgeRequest.PAUSE


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
    assert lockstep.poll(0) is BridgeRequest.STEP_ONCE


def test_command_alone_does_not_end_a_step():
    lockstep = paused_lockstep()
    lockstep.poll(0)
    lockstep.on_status(8, running=True, now_ns=0)
    lockstep.on_clock(100)
    lockstep.on_command(ROLE, 100)
    assert lockstep.poll(0) is None
    lockstep.on_status(8, running=False, now_ns=0)
    assert lockstep.poll(0) is BridgeRequest.STEP_ONCE
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
    waited_ns = [b - a for a, b in pairwise(stage.sent(BridgeRequest.STEP_ONCE))]
    assert waited_ns[2] >= S + 1.5 * S  # the bridge's own wait, then ours
    assert max(waited_ns[:2] + waited_ns[3:]) < S


def test_paused_bridge_stays_paused_while_gates_are_absent():
    stage = Stage(fast(), gates_present=False).start()
    stage.run(60.0)
    assert {what for _, what, _ in stage.requests} <= {BridgeRequest.PAUSE}
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
    assert len(stage.sent(BridgeRequest.STEP_ONCE)) == 7
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
    assert lockstep.poll(0) is BridgeRequest.PAUSE
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


@settings(max_examples=50)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 2]), st.booleans())
def test_topics_that_overtake_each_other_do_not_break_the_lockstep(random, copies, paused):
    stage = Stage(fast(), copies, delay_ns=lambda _: random.randrange(1, 200 * MS))
    stage.start(paused=paused).steps(20)
    check_clean(stage, 20)
    assert stage.lockstep.counts.restarts == 0


@settings(max_examples=50)
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
