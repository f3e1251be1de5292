# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The bridge's protocol as measured: what collapses, what blocks, and the races R1, R2, R5."""

import queue
import threading

import pytest

from td3_agent.sim.bridge_protocol import CommandWait, ControlCommand, RunState

PLAY, PAUSE, STEP_ONCE = ControlCommand.PLAY, ControlCommand.PAUSE, ControlCommand.STEP_ONCE
PATIENCE_S = 10.0  # before a test gives up; nothing here takes that long
SHORT_S = 0.02


class Loop:
    """The bridge's loop thread: every flag it publishes and every turn it gets, in order.

    After 'running False' it is blocked until the next command, so waiting for that event is
    waiting for the pause.
    """

    def __init__(self, *, start_paused=False):
        self.events = queue.Queue()
        self.state = RunState(
            lambda running: self.events.put(f'running {running}'), start_paused=start_paused
        )
        self.may_tick = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.state.shut_down()
        for _ in range(100):
            self.may_tick.release()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def _run(self):
        while self.state.wait_for_turn():
            self.events.put('turn')
            self.may_tick.acquire()
        self.events.put('end')

    def put(self, *commands):
        for command in commands:
            self.state.put(command)

    def tick(self):
        """Let the turn that was given come to its end."""
        self.may_tick.release()

    def expect(self, *events):
        assert [self.events.get(timeout=PATIENCE_S) for _ in events] == list(events)


PAUSED, RUNNING, TURN = 'running False', 'running True', 'turn'


@pytest.mark.parametrize(
    ('start_paused', 'script'),
    [
        pytest.param(False, [TURN, TURN, TURN], id='plays from the start'),
        pytest.param(True, [PAUSED, (PLAY,), RUNNING, TURN], id='can start paused'),
        pytest.param(
            False, [TURN, (PAUSE,), PAUSED, (PLAY,), RUNNING, TURN, TURN], id='pause holds'
        ),
        pytest.param(
            True, [PAUSED, *[(STEP_ONCE,), RUNNING, TURN, PAUSED] * 3], id='steps one by one'
        ),
        pytest.param(
            True,
            [PAUSED, (STEP_ONCE,), RUNNING, TURN, (STEP_ONCE,), RUNNING, TURN, PAUSED],
            id='step during a step',  # after the pause that the first one queued for itself
        ),
        # It is the caller who publishes changes only.
        pytest.param(False, [TURN, (PAUSE,), PAUSED, (PAUSE,), PAUSED], id='pausing twice'),
        # Only the newest of a burst counts.
        *(
            pytest.param(False, [TURN, burst, *events], id=' '.join(c.name for c in burst))
            for burst, events in [
                ((STEP_ONCE,), [RUNNING, TURN, PAUSED]),
                ((PAUSE, STEP_ONCE, STEP_ONCE, STEP_ONCE), [RUNNING, TURN, PAUSED]),
                ((PAUSE, PLAY), [RUNNING, TURN, TURN]),
                ((PLAY, PAUSE), [PAUSED]),
                ((STEP_ONCE, PAUSE), [PAUSED]),
                ((PAUSE, STEP_ONCE), [RUNNING, TURN, PAUSED]),
                ((STEP_ONCE, PLAY), [RUNNING, TURN, TURN]),
                ((PLAY, STEP_ONCE), [RUNNING, TURN, PAUSED]),
                ((PAUSE,) * 5, [PAUSED]),
            ]
        ),
    ],
)
def test_commands_lead_to_their_turns(start_paused, script):
    """A tuple is sent together; a turn comes to its end before the next event is awaited."""
    with Loop(start_paused=start_paused) as loop:
        ticking = False
        for item in script:
            if isinstance(item, tuple):
                loop.put(*item)
                continue
            if ticking:
                loop.tick()
            loop.expect(item)
            ticking = item == TURN


def test_a_turn_is_played_or_a_single_step():
    with Loop() as loop:
        loop.expect(TURN)
        assert loop.state.is_playing
        loop.put(STEP_ONCE)
        loop.tick()
        loop.expect(RUNNING, TURN)
        assert not loop.state.is_playing


def test_three_steps_sent_together_while_paused_are_one_turn():
    flags = []

    def on_running(running):
        flags.append(running)
        if flags == [False]:
            assert all(state.put(STEP_ONCE) for _ in range(3))
        elif flags == [False, True, False]:
            state.shut_down()

    state = RunState(on_running, start_paused=True)
    assert state.wait_for_turn()
    assert not state.wait_for_turn()  # the pause that the step queued for itself came last
    assert flags == [False, True, False]


@pytest.mark.parametrize('value', [-1, 3, 9, 127])
def test_unknown_value_is_refused_and_changes_nothing(value):
    with Loop() as loop:
        loop.expect('turn')
        assert not loop.state.put(value)
        loop.tick()
        loop.expect('turn')
        loop.put(PAUSE)
        assert not loop.state.put(value)
        loop.tick()
        loop.expect('running False')
        assert not loop.state.put(value)
        assert loop.state.put(PLAY)
        loop.expect('running True', 'turn')  # upstream would spin for ever


@pytest.mark.parametrize('value', ControlCommand)
def test_plain_numbers_of_the_message_are_understood(value):
    assert RunState(lambda _: None).put(int(value))


def test_shut_down_while_paused_ends_the_loop():
    with Loop() as loop:
        loop.expect('turn')
        loop.put(PAUSE)
        loop.tick()
        loop.expect('running False')
        loop.state.shut_down()
        loop.expect('end')


@pytest.mark.parametrize('after', [(), (PLAY,), (STEP_ONCE, PAUSE)])
def test_shut_down_while_playing_ends_the_loop_whatever_comes_after(after):
    with Loop() as loop:
        loop.expect('turn')
        loop.state.shut_down()
        loop.put(*after)
        loop.tick()
        loop.expect('end')


@pytest.fixture
def wait():
    """Return a wait that expects the command of one vehicle."""
    wait = CommandWait()
    wait.expect(['ego'])
    return wait


class AnsweredMeanwhile(threading.Event):
    """An event whose wait is interrupted by a command, every time."""

    def __init__(self, wait):
        super().__init__()
        self._command_wait = wait

    def wait(self, timeout=None):
        self._command_wait.received('ego')
        return super().wait(timeout)


def test_command_in_time_ends_the_wait_and_leaves_nothing_behind(wait):
    wait._all_received = AnsweredMeanwhile(wait)
    assert wait.wait(PATIENCE_S) == []
    assert not wait._all_received.is_set()


def test_command_of_another_thread_ends_the_wait(wait):
    thread = threading.Thread(target=wait.received, args=('ego',))
    thread.start()
    assert wait.wait(PATIENCE_S) == []
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_no_expected_command_is_no_wait():
    wait = CommandWait()
    assert wait.wait(PATIENCE_S) == []
    wait.expect([])
    assert wait.wait(PATIENCE_S) == []


def test_timeout_names_the_missing_roles():
    wait = CommandWait()
    wait.expect(['a', 'b', 'c'])
    assert wait.received('b')
    assert wait.wait(SHORT_S) == ['a', 'c']  # race R5
    wait.expect(['a'])
    assert wait.wait(SHORT_S) == ['a']


def test_early_reply_makes_the_next_wait_return_at_once(wait):
    assert wait.received('ego')  # before the bridge waits: race R1
    assert wait.wait(SHORT_S) == []
    wait.expect(['ego'])
    assert wait.wait(SHORT_S) == []  # nobody has answered this frame
    wait.expect(['ego'])
    assert wait.wait(SHORT_S) == ['ego']  # one wait was lost, no more


def test_early_replies_stay_one_frame_ahead(wait):
    wait.received('ego')
    for _ in range(5):
        wait.wait(SHORT_S)
        wait.expect(['ego'])
        assert wait.wait(SHORT_S) == []  # released by the command of the frame before
        wait.received('ego')


def test_second_command_makes_the_next_wait_return_at_once(wait):
    wait._all_received = AnsweredMeanwhile(wait)
    assert wait.wait(PATIENCE_S) == []
    wait._all_received = threading.Event()
    assert not wait.received('ego')  # unexpected, and still it sets the event: race R2
    wait.expect(['ego'])
    assert wait.wait(SHORT_S) == []
    wait.expect(['ego'])
    assert wait.wait(SHORT_S) == ['ego']


def test_command_of_an_unknown_role_is_unexpected_and_releases_no_wait(wait):
    assert not wait.received('stranger')
    assert wait.wait(SHORT_S) == ['ego']


def test_command_without_a_wait_is_unexpected():
    assert not CommandWait().received('ego')


def test_command_of_the_frame_before_does_not_count_after_a_timeout(wait):
    assert wait.wait(SHORT_S) == ['ego']
    assert wait.received('ego')  # too late for its frame: it is still on the list
    wait.expect(['ego'])
    assert wait.wait(SHORT_S) == []  # and releases the next one, as upstream does


def test_wait_is_given_up_when_the_program_ends():
    wait, missing = CommandWait(), queue.Queue()
    wait.expect(['ego'])
    waiting = threading.Thread(target=lambda: missing.put(wait.wait(PATIENCE_S)))
    waiting.start()
    wait.give_up()
    waiting.join(PATIENCE_S / 2.0)
    assert not waiting.is_alive()
    assert missing.get_nowait() == []
