# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the loop drives as trained: each cause is named, and a good drive is not."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.gate import Outcome
from td3_agent.driving.input_watch import SILENT_MESSAGES, InputWatch, MotionWindow
from td3_agent.driving.loop_check import (
    LEAST_FRAMES,
    WINDOW_FRAMES,
    CameraView,
    Contract,
    OutcomeWindow,
    camera_findings,
    field_of_view_deg,
    outcome_findings,
    rate_findings,
    rate_hz,
    replay_findings,
    seconds,
    stamp_findings,
)

OK, NONE = Outcome.OK.value, Outcome.NO_COMMAND.value
STEP_NS = 50_000_000
START_NS = 10_000_000_000
TRAINED = CameraView(width_px=160, height_px=120, fov_deg=90.0)


def stamps(count, step_ns=STEP_NS, start_ns=START_NS):
    return [start_ns + i * step_ns for i in range(count)]


def texts(found):
    return [finding.text for finding in found]


def only(found):
    (finding,) = found
    return finding.text


# Outcomes


@pytest.mark.parametrize(
    ('outcomes', 'expected'),
    [
        ({OK: 100}, None),
        ({}, None),
        ({OK: 1198, NONE: 2}, None),
        ({OK: 95, NONE: 5}, None),
        ({OK: 94, NONE: 6}, False),
        ({OK: 30, NONE: 29}, False),
        ({OK: 1, NONE: 99}, True),
        ({NONE: 1}, True),  # nothing was answered at all
        ({OK: 10, NONE: 2}, None),  # a hiccup at the start of a short drive
    ],
)
def test_a_share_of_frames_without_a_command_is_told(outcomes, expected):
    found = outcome_findings(outcomes)
    assert [finding.is_error for finding in found] == ([] if expected is None else [expected])


def test_the_usual_outcome_names_the_remedy():
    text = only(outcome_findings({OK: 50, NONE: 10, Outcome.NO_ODOMETRY.value: 40}))
    assert text.startswith('50 of 100 frames without the command of the driver')
    assert 'stopped_no_odometry 40' in text
    assert 'does the bridge publish odometry' in text
    assert 'only one' in only(outcome_findings({OK: 50, 'unreported': 50}))


def test_commands_that_come_too_late_are_told_from_those_that_never_come():
    assert 'too late' in only(outcome_findings({OK: 50, NONE: 50}, late=45))
    assert 'is td3_agent active' in only(outcome_findings({OK: 50, NONE: 50}, late=3))


@pytest.mark.parametrize(
    ('period', 'words'), [(2, 'every second frame'), (3, 'every third'), (7, 'every 7th')]
)
def test_a_regular_pattern_is_named(period, words):
    window = OutcomeWindow()
    for i in range(3 * WINDOW_FRAMES):
        window.add(NONE if i % period == 0 else OK)
    assert words in only(window.findings())


def test_a_window_forgets_what_was_mended_and_waits_for_enough_frames():
    window = OutcomeWindow()
    for _ in range(LEAST_FRAMES - 1):
        window.add(NONE)
        window.add_late()
    assert window.findings() == []
    window.add(NONE)
    assert 'too late' in only(window.findings())
    for _ in range(WINDOW_FRAMES):
        window.add(OK)
    assert window.findings() == []


# Stamps


@pytest.mark.parametrize(
    ('images', 'motions', 'words'),
    [
        # camera at a part of the bridge's rate
        (stamps(50, 2 * STEP_NS), stamps(100), ('every second frame has no image', '10 Hz', '20')),
        (stamps(25, 4 * STEP_NS), stamps(100), ('no image', 'camera 5 Hz, bridge 20 Hz')),
        # 3 : 2, as sensor_tick 0.05 at a bridge of 30 Hz; every n-th image dropped
        (
            [s for i, s in enumerate(stamps(91, 33_333_333)) if i % 3 != 2],
            stamps(91, 33_333_333),
            ('every third frame has no image', 'camera 20 Hz', 'bridge 30 Hz', '0.0333'),
        ),
        (
            [s for i, s in enumerate(stamps(100)) if i % 10],
            stamps(100),
            ('every 10th frame has no image', 'sensor_tick'),
        ),
        # the other half is missing
        (stamps(100), stamps(50, 2 * STEP_NS), ('every second frame has no odometry',)),
        # stamps that are not stamps
        ([0] * 40, stamps(40), ('image stamps are missing, 40 of 40',)),
        (stamps(40), [0] * 40, ('odometry stamps are missing',)),
        ([START_NS] * 40, stamps(40), ('image stamps stand still at 10 s',)),
        (stamps(40)[::-1], stamps(40), ('image stamps repeat or run back',)),
        # a constant offset, whatever its size
        (
            stamps(40),
            stamps(40, start_ns=START_NS + 1),
            ('none of 40 image', '1 ns earlier'),
        ),
        (stamps(40, start_ns=START_NS + 1_000_000), stamps(40), ('1000000 ns later',)),
        (stamps(40, start_ns=START_NS + 20_000_000), stamps(40), ('20000000 ns later',)),
        (
            stamps(40, start_ns=1_700_000_000 * 10**9),
            stamps(40),
            ('near 1700000001.95 s', 'simulated time'),
        ),
    ],
)
def test_each_cause_of_frames_that_are_not_whole_is_named(images, motions, words):
    text = '; '.join(texts(stamp_findings(images, motions)))
    for word in words:
        assert word in text, text


def test_stamps_that_are_cut_off_differently_are_told_by_their_difference():
    """CARLA's stamps are often 1 ns short of the grid; here the odometry is on it."""
    images = [s - (i % 4 > 0) for i, s in enumerate(stamps(80))]
    text = only(stamp_findings(images, stamps(80)))
    assert text.startswith(
        '20 of 80 image stamps equal an odometry stamp: images are 1 ns earlier'
    )


@pytest.mark.parametrize(
    ('images', 'motions', 'rejected', 'first'),
    [
        (stamps(80), stamps(80), 0, None),
        (stamps(40, 2 * STEP_NS), stamps(80), 0, 'every second frame has no image'),
        (stamps(80), stamps(20, 4 * STEP_NS), 0, '20 of 80 images were answered'),
        ([0] * 20, [0] * 20, 0, '1 of 20 images were answered'),
        (stamps(5), stamps(5), 6, '5 of 11 images were answered'),
        ([], [], 0, None),
    ],
)
def test_a_replay_fails_when_most_images_gave_no_action(images, motions, rejected, first):
    answered = sorted(set(images) & set(motions))
    found = replay_findings(
        images, motions, answered, rejected=rejected, contract=Contract(), camera=None
    )
    assert (found[0].text if found else '').startswith(first or '')
    assert bool(found) == bool(first)
    is_failure = bool(first) and 'answered' in first
    assert [one.is_error for one in found] == [is_failure] * bool(found) + [False] * (
        len(found) - 1
    )


@given(
    lost=st.sets(st.integers(0, 199), max_size=2),
    lead=st.integers(0, 5),
    behind=st.integers(0, 2),
    step_ns=st.sampled_from([STEP_NS, 33_333_333, 49_999_999, 100_000_000]),
)
def test_a_good_drive_is_not_told_of(lost, lead, behind, step_ns):
    """Images that began later, are on their way, or were lost once."""
    motions = stamps(200, step_ns)
    images = [s for i, s in enumerate(motions) if i not in lost][lead : 200 - behind]
    assert stamp_findings(images, motions) == []
    assert stamp_findings(motions, images) == []


def test_a_rate_is_that_of_the_frames_and_gaps_are_no_rate():
    assert rate_hz(stamps(40)) == pytest.approx(20.0)
    assert rate_hz(stamps(20) + stamps(20, start_ns=START_NS + 60 * 10**9)) == pytest.approx(20.0)
    assert rate_hz(stamps(5, 2 * 10**9)) == pytest.approx(0.5)
    assert rate_hz([START_NS]) is None


# What the policy was trained with


@pytest.mark.parametrize('rate', [10.0, 15.0, 25.0, 30.0])
def test_another_rate_than_the_trained_one_is_told(rate):
    text = only(rate_findings(20.0, rate, rate))
    assert f'images come at {rate:.3g} Hz, the policy was trained at 20 Hz' in text


def test_frames_answered_too_seldom_are_not_the_cameras_fault():
    assert 'frames are answered at 10 Hz' in only(rate_findings(20.0, 10.0, 20.0))


def test_drivers_without_a_contract_have_no_wrong_rate_or_camera():
    assert rate_findings(None, 3.0) == camera_findings(None, TRAINED) == []
    assert rate_findings(20.0, 19.2) == rate_findings(20.0, None) == []


@pytest.mark.parametrize(
    ('got', 'words'),
    [
        ((800, 600, 110.0), ('160x120 90 deg, got 800x600 110 deg', 'field of view')),
        ((320, 240, 90.4), ()),  # a larger image of the same picture
        ((160, 120, None), ()),
        ((1920, 1080, 90.0), ('distorted',)),
        ((84, 84, None), ('distorted', 'got 84x84')),
        ((80, 60, 90.0), ('smaller',)),
    ],
)
def test_another_camera_than_the_trained_one_is_told(got, words):
    width, height, fov = got
    view = CameraView(width_px=width, height_px=height, fov_deg=fov)
    found = '; '.join(texts(camera_findings(TRAINED, view)))
    assert bool(found) == bool(words)
    for word in words:
        assert word in found


def test_the_field_of_view_is_the_pinholes():
    assert field_of_view_deg(160, 80.0) == pytest.approx(90.0)
    assert field_of_view_deg(160, 0.0) is field_of_view_deg(160, float('nan')) is None


@pytest.mark.parametrize('field', ['width_px', 'height_px', 'fov_deg'])
def test_what_no_camera_has_is_rejected(field):
    with pytest.raises(ValueError, match=f'{field} must be'):
        CameraView(**{'width_px': 160, 'height_px': 120, field: 0})


# Whether the car moves


@pytest.mark.parametrize(
    ('commanded', 'speed', 'words'),
    [
        (0.0, 0.0, 'the driver commands 0.0 m/s, the car has moved 0.0 m in 20 s'),
        (5.0, 0.005, 'commanded 5.0 m/s, moved 0.1 m in 20 s'),
        (5.0, 4.9, ''),
        (1.0, 0.4, ''),
    ],
)
def test_a_car_that_stands_is_told_with_its_cause(commanded, speed, words):
    window = MotionWindow()
    for i, stamp in enumerate(stamps(600)):
        window.add(stamp, speed_mps=speed, commanded_mps=commanded)
        assert i > 370 or window.findings() == []  # a start takes its time
    assert '; '.join(texts(window.findings())).startswith(words)
    assert bool(window.findings()) == bool(words)


def test_a_jump_of_time_begins_the_wait_for_a_car_again():
    window = MotionWindow()
    for stamp in (*stamps(350), *stamps(350, start_ns=10**12), *stamps(350)):
        window.add(stamp, speed_mps=0.0, commanded_mps=0.0)
    assert window.findings() == []


# All inputs of an agent


def watched(images, motions, watch=None):
    """Return a watch that has seen these stamps as they come: in order, image first."""
    watch = watch or InputWatch()
    both = sorted([(s, 0) for s in images] + [(s, 1) for s in motions])
    for stamp, is_motion in both:
        if is_motion:
            watch.on_motion(stamp)
            if stamp in images:
                watch.on_response(stamp, speed_mps=5.0, commanded_mps=5.0)
        else:
            watch.on_image(stamp, 160, 120)
    return watch


def test_a_watch_names_a_slow_camera_to_bridge_and_policy():
    contract = Contract(rate_hz=20.0, camera=TRAINED)
    found = texts(watched(stamps(60, 2 * STEP_NS), stamps(120), InputWatch(contract)).findings())
    assert [text.split(':')[0] for text in found] == [
        'every second frame has no image',
        'images come at 10 Hz, the policy was trained at 20 Hz',
    ]


@pytest.mark.parametrize('every', [2, 4, 10])
def test_a_watch_that_has_seen_much_still_names_the_camera(every):
    """Its newest images go back further than its newest odometry."""
    motions = stamps(150 * every)
    found = texts(watched(motions[::every], motions).findings())
    assert len(found) == 1
    assert f'camera {20 / every:.3g} Hz, bridge 20 Hz' in found[0]


def test_a_watch_says_nothing_of_a_good_drive_with_a_restart_and_of_its_first_frames():
    watch = InputWatch(Contract(rate_hz=20.0, camera=TRAINED))
    for start_ns in (START_NS, 0, 5 * 10**9):  # started anew, and looped
        watched(stamps(150, start_ns=start_ns), stamps(150, start_ns=start_ns), watch)
        assert watch.findings() == []
    watched((), stamps(LEAST_FRAMES, start_ns=0), watch)
    assert watch.findings() == []


def test_a_camera_that_ends_is_told_with_the_time_of_its_last_image():
    watch = watched(stamps(60), stamps(60 + SILENT_MESSAGES))
    assert only(watch.findings()).startswith('no image since 12.95 s, but 41 odometry messages')
    never = InputWatch()
    for stamp in stamps(SILENT_MESSAGES):
        never.on_motion(stamp)
    assert 'no image so far' in only(never.findings())


def test_camera_info_tells_the_lens_until_the_size_changes():
    watch = InputWatch(Contract(camera=TRAINED))
    watch.on_camera_info(160, 120, 56.0)
    watched(stamps(60), stamps(60), watch)
    assert '160x120 110' in only(watch.findings())
    for stamp in stamps(60, start_ns=START_NS + 60 * STEP_NS):
        watch.on_image(stamp, 320, 240)
        watch.on_motion(stamp)
    assert watch.findings() == []


def test_two_bridges_that_take_turns_are_told():
    watch = InputWatch()
    for i in range(WINDOW_FRAMES):
        start_ns = START_NS if i % 2 else 60 * 10**9
        watch.on_image(start_ns + i * STEP_NS, 160, 120)
        watch.on_motion(start_ns + i * STEP_NS)
    assert 'two bridges' in only(watch.findings())


def test_counts_of_any_mapping_do():
    assert outcome_findings(Counter([OK] * 50)) == []


@pytest.mark.parametrize(
    ('stamp_ns', 'text'),
    [
        (0, '0 s'),
        (10_000_000_000, '10 s'),
        (10_050_000_000, '10.05 s'),
        (1_796_095_221_123_456_789, '1796095221.123456789 s'),
    ],
)
def test_stamp_in_a_sentence_loses_no_digit(stamp_ns, text):
    assert seconds(stamp_ns) == text
