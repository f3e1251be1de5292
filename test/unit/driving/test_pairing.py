# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Pairing: equal stamps only, each once and in order, whatever the transport does."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.geometry import GAP_NS, JUMP_BACK_NS
from td3_agent.driving.responder import FramePairer

STEP_NS = 50_000_000
START_NS = 10 * 10**9


def stamp(frame):
    return START_NS + frame * STEP_NS


def add(pairer, kind, stamp_ns):
    """Add a half that says where it comes from."""
    feed = pairer.add_image if kind == 'image' else pairer.add_motion
    return feed(stamp_ns, (kind, stamp_ns))


def pair(pairer, stamp_ns):
    """Add both halves; return what the second one completes."""
    assert add(pairer, 'image', stamp_ns) is None
    return add(pairer, 'motion', stamp_ns)


@pytest.mark.parametrize('order', [('image', 'motion'), ('motion', 'image')])
def test_halves_of_one_stamp_make_a_pair_in_either_order(order):
    pairer = FramePairer()
    assert add(pairer, order[0], stamp(0)) is None
    made = add(pairer, order[1], stamp(0))
    assert made.stamp_ns == stamp(0)
    assert (made.image, made.motion) == (('image', stamp(0)), ('motion', stamp(0)))
    assert pairer.counts.paired == 1


def test_one_nanosecond_apart_is_not_a_pair():
    pairer = FramePairer()
    add(pairer, 'image', stamp(0))
    assert add(pairer, 'motion', stamp(0) + 1) is None
    assert add(pairer, 'motion', stamp(0) - 1) is None


def test_stamp_zero_is_a_stamp():
    pairer = FramePairer()
    assert pair(pairer, 0).stamp_ns == 0
    assert pair(pairer, 1).stamp_ns == 1


@pytest.mark.parametrize('kind', ['image', 'motion'])
def test_repeated_half_is_counted_and_the_first_one_kept(kind):
    pairer = FramePairer()
    add(pairer, kind, stamp(0))
    feed = pairer.add_image if kind == 'image' else pairer.add_motion
    assert feed(stamp(0), 'another') is None
    made = add(pairer, 'motion' if kind == 'image' else 'image', stamp(0))
    assert 'another' not in (made.image, made.motion)
    assert pairer.counts.repeated == 1


@pytest.mark.parametrize('kind', ['image', 'motion'])
def test_repeated_half_of_a_finished_frame_is_stale(kind):
    pairer = FramePairer()
    pair(pairer, stamp(0))
    assert add(pairer, kind, stamp(0)) is None
    assert (pairer.counts.stale, pairer.counts.paired) == (1, 1)


def test_older_frame_is_left_behind_when_a_newer_one_completes():
    pairer = FramePairer()
    add(pairer, 'image', stamp(0))
    add(pairer, 'motion', stamp(1))
    assert pair(pairer, stamp(2)).stamp_ns == stamp(2)
    assert pairer.counts.unpaired == 2
    assert add(pairer, 'motion', stamp(0)) is None  # late
    assert add(pairer, 'image', stamp(1)) is None
    assert pairer.counts.stale == 2


def test_newer_half_waits_while_an_older_frame_completes():
    pairer = FramePairer()
    add(pairer, 'image', stamp(1))
    assert pair(pairer, stamp(0)).stamp_ns == stamp(0)
    assert add(pairer, 'motion', stamp(1)).stamp_ns == stamp(1)
    assert pairer.counts.unpaired == 0


def test_oldest_incomplete_frame_is_given_up_when_there_are_too_many():
    pairer = FramePairer(capacity=3)
    for frame in range(4):
        add(pairer, 'image', stamp(frame))
    assert pairer.counts.unpaired == 1
    assert add(pairer, 'motion', stamp(0)) is None  # its image is gone
    assert add(pairer, 'motion', stamp(3)).stamp_ns == stamp(3)


@pytest.mark.parametrize('capacity', [1, 8])
def test_endless_images_without_odometry_do_not_pile_up(capacity):
    pairer = FramePairer(capacity=capacity)
    for frame in range(1000):
        assert add(pairer, 'image', stamp(frame)) is None
    assert len(pairer._open) == capacity
    assert pairer.counts.unpaired == 1000 - capacity


def test_first_pair_is_a_fresh_start_and_the_following_ones_are_not():
    pairer = FramePairer()
    assert [pair(pairer, stamp(frame)).fresh_start for frame in range(4)] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize('to_ns', [0, START_NS - JUMP_BACK_NS - 1])
def test_jump_back_resets_once_and_marks_a_fresh_start(to_ns):
    pairer = FramePairer()
    for frame in range(5):
        pair(pairer, stamp(frame))
    add(pairer, 'image', stamp(5))  # half of a frame that the old world never finished
    flags = [pair(pairer, to_ns + frame * STEP_NS).fresh_start for frame in range(5)]
    assert flags == [True, False, False, False, False]
    assert (pairer.counts.resets, pairer.counts.unpaired) == (1, 1)


def test_no_half_from_before_a_restart_meets_one_from_after():
    pairer = FramePairer()
    pair(pairer, stamp(0))
    add(pairer, 'image', stamp(1))
    pair(pairer, 0)  # the simulator was restarted
    assert add(pairer, 'motion', stamp(1)) is None


@pytest.mark.parametrize('back_ns', [1, 1_000_000, STEP_NS, JUMP_BACK_NS])
def test_small_step_back_is_dropped_as_reordering(back_ns):
    pairer = FramePairer()
    pair(pairer, stamp(0))
    assert add(pairer, 'image', stamp(0) - back_ns) is None
    assert add(pairer, 'motion', stamp(0) - back_ns) is None
    assert (pairer.counts.stale, pairer.counts.resets) == (2, 0)
    assert not pair(pairer, stamp(1)).fresh_start


@pytest.mark.parametrize(('ahead_ns', 'fresh'), [(GAP_NS, False), (GAP_NS + 1, True)])
def test_gap_forward_marks_a_fresh_start(ahead_ns, fresh):
    pairer = FramePairer()
    pair(pairer, stamp(0))
    assert pair(pairer, stamp(0) + ahead_ns).fresh_start is fresh
    assert not pair(pairer, stamp(1) + ahead_ns).fresh_start
    assert pairer.counts.resets == 0


def test_jump_of_a_hundred_seconds_is_one_frame_and_no_more():
    pairer = FramePairer()
    pair(pairer, stamp(0))
    assert pair(pairer, stamp(2000)).stamp_ns == stamp(2000)
    assert pairer.counts.paired == 2


def deliveries(frames):
    """Each half of each frame arrives zero to three times, anywhere within half a second."""
    half = st.tuples(st.sampled_from(['image', 'motion']), st.integers(0, frames - 1))
    return st.lists(half, max_size=6 * frames)


@given(deliveries(10), st.integers(1, 8))
def test_whatever_arrives_each_stamp_is_paired_once_in_order_and_never_mixed(halves, capacity):
    pairer, made = FramePairer(capacity=capacity), []
    for kind, frame in halves:
        result = add(pairer, kind, stamp(frame))
        if result is not None:
            made.append(result)
            assert result.stamp_ns == stamp(frame)  # by its own second half
    stamps = [result.stamp_ns for result in made]
    assert stamps == sorted(set(stamps))
    for result in made:
        assert result.image == ('image', result.stamp_ns)
        assert result.motion == ('motion', result.stamp_ns)
    assert [result.fresh_start for result in made] == [i == 0 for i in range(len(made))]
    counts = pairer.counts
    taken = 2 * counts.paired + counts.repeated + counts.stale
    assert taken <= len(halves) <= taken + counts.unpaired + len(pairer._open)
    assert (counts.paired, counts.resets) == (len(made), 0)


@given(st.data())
def test_in_order_streams_lose_exactly_what_the_transport_loses(data):
    frames = 12
    lost = data.draw(st.sets(st.tuples(st.sampled_from(['image', 'motion']), st.integers(0, 11))))
    streams = {
        kind: [frame for frame in range(frames) if (kind, frame) not in lost]
        for kind in ('image', 'motion')
    }
    pairer, made = FramePairer(capacity=2 * frames), []
    while streams['image'] or streams['motion']:
        kind = data.draw(st.sampled_from([kind for kind, left in streams.items() if left]))
        result = add(pairer, kind, stamp(streams[kind].pop(0)))
        made += [result.stamp_ns] if result else []
    whole = [f for f in range(frames) if not lost & {('image', f), ('motion', f)}]
    assert made == [stamp(frame) for frame in whole]
