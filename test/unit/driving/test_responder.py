# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent without its node: frames in, commands out."""

from __future__ import annotations

from pathlib import Path

from harness.images import moving
import numpy as np
import pytest

from td3_agent.driving.agent import Agent, TwistEncoder
from td3_agent.driving.command import STOP, TwistConvention, twist_from_action
from td3_agent.driving.loop_check import Contract
from td3_agent.driving.observation import ImageError, ImageView
from td3_agent.driving.responder import LONG_MISSING_NS, FrameResponder
from td3_agent.driving.route import Route
from td3_agent.driving.vehicle import VehicleGeometry

FRAME_NS = 50_000_000
START_NS = 10_000_000_000
MAX_AGE_NS = 500_000_000
GEOMETRY = VehicleGeometry(wheelbase_m=2.8, max_steer_angle_rad=1.0)
IMAGE = ImageView(data=bytes(84 * 84), height=84, width=84, encoding='mono8', step=84)


class CountingDriver:
    """Asks for a little more speed at each call, so that calls can be told apart."""

    def __init__(self):
        self.calls = 0
        self.resets = 0
        self.error = None

    def reset(self):
        self.resets += 1

    def set_route(self, route):
        pass

    def act(self, observation):
        del observation
        if self.error is not None:
            raise self.error
        self.calls += 1
        return np.array([-1.0 + 0.01 * self.calls, 0.5], dtype=np.float32)


def state(stamp_ns):
    return moving(5.0, stamp_ns=stamp_ns)


def responder(driver, *, lockstep=True, convention=TwistConvention.VELOCITY):
    return FrameResponder(
        Agent(driver), TwistEncoder(convention), lockstep=lockstep, max_frame_age_ns=MAX_AGE_NS
    )


@pytest.fixture
def driver():
    return CountingDriver()


def test_lockstep_answers_when_the_second_half_arrives_in_either_order(driver):
    agent = responder(driver)
    assert agent.on_image(START_NS, IMAGE, 1) is None
    first = agent.on_motion(state(START_NS), 2)
    second_ns = START_NS + FRAME_NS
    assert agent.on_motion(state(second_ns), 3) is None
    second = agent.on_image(second_ns, IMAGE, 4)
    assert (first.stamp_ns, second.stamp_ns) == (START_NS, second_ns)
    assert first.twist == twist_from_action(np.array([-0.99, 0.5], dtype=np.float32))
    fields = second.record()
    assert (fields['odometry_received_ns'], fields['image_received_ns']) == (3, 4)


def test_an_image_is_prepared_when_it_comes_and_only_if_its_frame_needs_it(driver):
    prepared = []
    agent = responder(driver)
    preprocess = agent._agent.preprocess
    agent._agent.preprocess = lambda *args: prepared.append(args) or preprocess(*args)
    agent.on_image(START_NS, IMAGE, 1)
    assert len(prepared) == 1
    agent.on_image(START_NS, IMAGE, 2)  # once more
    agent.on_motion(state(START_NS), 3)
    agent.on_image(START_NS, IMAGE, 4)  # of a frame that is answered
    agent.on_image(START_NS - FRAME_NS, IMAGE, 5)
    assert len(prepared) == 1
    assert (agent.counts.repeated, agent.counts.stale) == (1, 2)
    agent.on_image(START_NS + FRAME_NS, IMAGE, 6)
    assert len(prepared) == 2
    agent.on_image(START_NS - 10 * 10**9, IMAGE, 7)  # time begins anew
    assert len(prepared) == 3


def test_a_failing_driver_stops_the_car_and_is_reported(driver):
    agent = responder(driver)
    driver.error = RuntimeError('no network')
    agent.on_image(START_NS, IMAGE, 1)
    command = agent.on_motion(state(START_NS), 2)
    assert command.twist == STOP
    assert 'no network' in agent.fault
    driver.error = None
    agent.on_image(START_NS + FRAME_NS, IMAGE, 3)
    assert agent.on_motion(state(START_NS + FRAME_NS), 4).twist != STOP
    assert not agent.fault


def test_an_action_that_is_no_number_stops_the_car(driver):
    driver.act = lambda _: np.array([np.nan, 0.0], dtype=np.float32)
    agent = responder(driver)
    agent.on_image(START_NS, IMAGE, 1)
    command = agent.on_motion(state(START_NS), 2)
    assert command.twist == STOP
    assert 'finite' in agent.fault


def test_time_that_runs_back_starts_a_new_drive_once(driver):
    agent = responder(driver)
    for stamp_ns in (START_NS, START_NS + FRAME_NS, FRAME_NS, 2 * FRAME_NS):
        agent.on_image(stamp_ns, IMAGE, 1)
        assert agent.on_motion(state(stamp_ns), 1).stamp_ns == stamp_ns
    assert driver.resets == 2  # at the first frame ever, and at the jump
    assert agent.counts.resets == 1


def test_upstream_convention_waits_for_the_geometry_and_then_answers(driver):
    agent = responder(driver, convention=TwistConvention.CARLA_TWIST_TO_CONTROL)
    agent.on_image(START_NS, IMAGE, 1)
    assert agent.on_motion(state(START_NS), 2) is None
    assert driver.calls == 0
    assert agent.on_geometry(GEOMETRY).stamp_ns == START_NS
    assert agent.on_geometry(GEOMETRY) is None
    assert driver.calls == 1


def test_free_running_answers_only_on_the_timer_and_each_frame_once(driver):
    agent = responder(driver, lockstep=False)
    assert agent.on_timer(0) is None
    agent.on_image(START_NS, IMAGE, 10)
    assert agent.on_motion(state(START_NS), 20) is None
    first = agent.on_timer(30)
    again = agent.on_timer(40)
    assert first.record()
    assert (again.stamp_ns, again.twist, again.record()) == (first.stamp_ns, first.twist, {})
    assert driver.calls == 1


def test_free_running_stops_when_the_newest_frame_is_too_old_and_recovers(driver):
    agent = responder(driver, lockstep=False)
    agent.on_image(START_NS, IMAGE, 0)
    agent.on_motion(state(START_NS), 10)
    assert agent.on_timer(10 + MAX_AGE_NS).twist != STOP
    assert agent.on_timer(11 + MAX_AGE_NS).twist == STOP
    assert 'too old' in agent.fault
    now_ns = 20 + MAX_AGE_NS
    agent.on_image(START_NS + FRAME_NS, IMAGE, now_ns)
    agent.on_motion(state(START_NS + FRAME_NS), now_ns)
    assert agent.on_timer(now_ns).twist != STOP
    assert not agent.fault


def frame(agent, number, now_ns=0):
    """Give one good frame; return what on_motion returned."""
    stamp_ns = START_NS + number * FRAME_NS
    agent.on_image(stamp_ns, IMAGE, now_ns)
    return agent.on_motion(state(stamp_ns), now_ns)


def test_free_running_stops_at_the_third_rejection_in_a_row_and_recovers(driver):
    agent = responder(driver, lockstep=False)
    frame(agent, 0)
    assert agent.on_timer(1).twist != STOP
    assert [agent.on_rejected('bad'), agent.on_rejected('bad')] == [None, None]
    frame(agent, 1)  # one good frame begins the count anew
    assert [agent.on_rejected('bad'), agent.on_rejected('bad')] == [None, None]
    assert agent.on_timer(2).twist != STOP
    stop = agent.on_rejected('x_m must be finite')
    assert (stop.twist, stop.stamp_ns, stop.record()) == (STOP, START_NS + FRAME_NS, {})
    assert 'x_m must be finite' in agent.fault
    assert agent.on_timer(3).twist == STOP
    frame(agent, 2)
    assert agent.on_timer(4).twist != STOP
    assert not agent.fault


def test_in_lockstep_the_stop_after_rejections_is_the_gates(driver):
    agent = responder(driver)
    frame(agent, 0)
    assert [agent.on_rejected('bad') for _ in range(5)] == [None] * 5
    assert 'bad' in agent.fault
    assert frame(agent, 1).twist != STOP
    assert not agent.fault


def test_rejections_before_any_frame_say_nothing(driver):
    agent = responder(driver, lockstep=False)
    assert [agent.on_rejected('bad') for _ in range(5)] == [None] * 5


def test_another_size_within_a_drive_is_rejected_and_a_new_drive_may_have_it(driver):
    agent = responder(driver)
    frame(agent, 0)
    small = ImageView(data=bytes(64 * 80), height=64, width=80, encoding='mono8', step=80)
    with pytest.raises(ValueError, match=r'\(84, 84\) \[px\].*got \(64, 80\)'):
        agent.on_image(START_NS + FRAME_NS, small, 1)
    assert frame(agent, 1).twist != STOP
    back_ns = START_NS - 10**9  # the simulator was restarted, with another camera
    agent.on_image(back_ns, small, 2)
    assert agent.on_motion(state(back_ns), 2).twist != STOP
    with pytest.raises(ValueError, match='deactivated'):
        agent.on_image(back_ns + FRAME_NS, IMAGE, 3)
    agent.reset()
    agent.on_image(back_ns + FRAME_NS, IMAGE, 4)
    assert agent.on_motion(state(back_ns + FRAME_NS), 4).twist != STOP


def test_first_image_does_not_decide_on_the_size_before_its_frame_is_whole(driver):
    agent = responder(driver)
    frame(agent, 0)
    agent.reset()
    small = ImageView(data=bytes(64 * 80), height=64, width=80, encoding='mono8', step=80)
    agent.on_image(START_NS + FRAME_NS, small, 1)  # its odometry never comes
    assert frame(agent, 2).twist != STOP


@pytest.mark.parametrize('error', [TypeError('no'), IndexError('out'), MemoryError(), KeyError(1)])
def test_whatever_a_driver_raises_the_car_is_stopped(driver, error):
    agent = responder(driver)
    driver.error = error
    command = frame(agent, 0)
    assert command.twist == STOP
    said = command.record()['agent_error']
    assert said.startswith(f'driver failed: {type(error).__name__}')
    assert f'({Path(__file__).name}, line ' in said


def test_what_a_driver_says_when_it_fails_is_not_endless(driver):
    agent = responder(driver)
    driver.error = ValueError('x' * 10**6)
    assert len(frame(agent, 0).record()['agent_error']) == 1000


class TestSlowDriver:
    @staticmethod
    def responder(driver, took_ns, *, lockstep):
        clock = iter([0, 0, took_ns] * 9)  # image prepared, observed, decided
        return FrameResponder(
            Agent(driver, None, lambda: next(clock)),
            TwistEncoder(TwistConvention.VELOCITY),
            lockstep=lockstep,
            max_frame_age_ns=MAX_AGE_NS,
        )

    def test_free_running_a_late_answer_is_a_stop(self, driver):
        agent = self.responder(driver, MAX_AGE_NS + 1, lockstep=False)
        frame(agent, 0)
        command = agent.on_timer(0)
        assert command.twist == STOP
        assert 'driver answered after 0.50 s, expected <= 0.5 s' in command.record()['agent_error']
        assert 'the car is stopped' in agent.fault

    def test_in_lockstep_the_gate_decides_and_the_trouble_is_told(self, driver):
        agent = self.responder(driver, MAX_AGE_NS + 1, lockstep=True)
        assert frame(agent, 0).twist != STOP
        assert 'driver answered after' in agent.fault

    @pytest.mark.parametrize('lockstep', [False, True])
    def test_at_the_limit_is_in_time(self, driver, lockstep):
        agent = self.responder(driver, MAX_AGE_NS, lockstep=lockstep)
        command = frame(agent, 0) or agent.on_timer(0)
        assert command.twist != STOP
        assert not agent.fault


class TestMissingHalf:
    def test_the_other_half_is_waited_for_a_while(self, driver):
        agent = responder(driver)
        agent.on_motion(state(START_NS), 0)
        assert agent.missing(LONG_MISSING_NS - 1) == ''
        assert agent.missing(LONG_MISSING_NS).startswith('no image for the frame at 10 s, 0 inc')

    def test_camera_that_is_always_late_is_named_with_its_delay_and_the_remedy(self, driver):
        agent = responder(driver)
        for number in range(5):  # the gate has braked, and the next frame has begun meanwhile
            agent.on_motion(state(START_NS + number * FRAME_NS), number * 450_000_000)
            if number:
                late_ns = START_NS + (number - 1) * FRAME_NS
                agent.on_image(late_ns, IMAGE, number * 450_000_000 + 170_000_000)
                told = agent.missing(number * 450_000_000 + 200_000_000)
                assert told.startswith('the image comes 0.62 s after the odometry')
                assert 'raise deadline_s of the gate above that (at most 0.9 s' in told
        agent.on_motion(state(START_NS + 5 * FRAME_NS), 10**10)
        agent.on_image(START_NS + 5 * FRAME_NS, IMAGE, 10**10 + 5_000_000)
        assert agent.missing(10**10 + 5_000_000) == ''

    def test_either_half_is_named(self, driver):
        agent = responder(driver)
        agent.on_image(START_NS, IMAGE, 0)
        assert agent.missing(LONG_MISSING_NS).startswith('no odometry for the frame')

    def test_complete_frames_leave_nothing_to_name(self, driver):
        agent = responder(driver)
        agent.on_motion(state(START_NS), 0)
        agent.on_motion(state(START_NS + FRAME_NS), 0)
        agent.on_image(START_NS + FRAME_NS, IMAGE, 1)
        assert agent.missing(10**12) == ''

    def test_paused_simulator_is_no_fault(self, driver):
        assert responder(driver).missing(10**12) == ''


def test_an_encoding_that_the_policy_was_not_trained_with_is_rejected(driver):
    agent = FrameResponder(
        Agent(driver),
        TwistEncoder(TwistConvention.VELOCITY),
        lockstep=True,
        max_frame_age_ns=MAX_AGE_NS,
        contract=Contract(encodings=('rgb8', 'bgr8')),
    )
    with pytest.raises(ImageError, match=r'must be one of rgb8, bgr8, as the policy .* got mono8'):
        agent.on_image(START_NS, IMAGE, 1)
    assert agent.on_motion(state(START_NS), 2) is None


def test_the_watch_sees_what_is_answered(driver):
    agent = responder(driver)
    for frame in range(60):
        stamp_ns = START_NS + frame * FRAME_NS
        if frame % 2:
            agent.on_image(stamp_ns, IMAGE, 1)
        agent.on_motion(state(stamp_ns), 2)
    (found,) = agent.watch.findings()
    assert found.text.startswith('every second frame has no image: camera 10 Hz, bridge 20 Hz')


class TestWithdrawnRoute:
    def test_every_frame_gets_a_stop_until_there_is_another(self, driver):
        agent = responder(driver)
        assert frame(agent, 0).twist != STOP
        agent.set_route(None)
        stop = frame(agent, 1)
        assert stop.twist == STOP
        assert driver.calls == 1  # the driver would go on by the old one
        assert 'the route was withdrawn' in agent.fault
        assert stop.record()['agent_error'] == agent.fault
        agent.set_route(Route([(0.0, 0.0), (9.0, 0.0)]))
        assert agent.fault == ''
        assert driver.resets == 2  # one at the first frame
        assert frame(agent, 2).twist != STOP

    def test_the_timer_stops_at_once(self, driver):
        agent = responder(driver, lockstep=False)
        frame(agent, 0)
        assert agent.on_timer(1).twist != STOP
        agent.set_route(None)
        assert agent.on_timer(2).twist == STOP
        assert 'the route was withdrawn' in agent.fault
        agent.set_route(Route([(0.0, 0.0), (9.0, 0.0)]))
        frame(agent, 1)
        assert agent.on_timer(3).twist != STOP
