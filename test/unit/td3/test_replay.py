# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Replay buffer: every sample is a transition that was stored, whatever the ring went through."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.td3.replay import ReplayBuffer, tone_curves
from td3_agent.td3.transitions import ObservationShape, Observed, ReplayError

STACK = 3
SIDE = 2
IMAGES = ObservationShape(
    state_size=1, image_shape=(STACK, SIDE, SIDE), frame_stack=STACK, privileged_size=1
)
VECTORS = ObservationShape(state_size=2)
ACTIONS = 2


class Recorder:
    """Writes numbered observations and remembers what a sample from each must be."""

    def __init__(self, buffer, stream=0):
        self.buffer, self.stream = buffer, stream
        self.number = 1000 * stream  # of the newest observation; also its state
        self.known = {}  # number of the first observation: everything about the step
        self.image = None

    def observed(self, *, fresh):
        self.number += 1
        frame = np.full((1, SIDE, SIDE), self.number % 251, np.uint8)
        if fresh:
            self.image = np.repeat(frame, STACK, axis=0)
        else:
            self.image = np.concatenate((self.image[1:], frame))
        value = np.array([self.number], np.float32)
        if self.buffer.shape.image_shape is None:
            return Observed(state=np.array([self.number, -self.number], np.float32))
        return Observed(state=value, image=self.image, privileged=-value)

    def begin(self):
        self.buffer.begin(self.observed(fresh=True), self.stream)

    def step(self, *, terminated=False, truncated=False):
        before, old_image = self.number, self.image.copy()
        action = np.array([before % 7, before % 3], np.float32) / 10.0
        self.buffer.add(
            action,
            before / 8.0,
            self.observed(fresh=False),
            terminated=terminated,
            truncated=truncated,
            stream=self.stream,
        )
        self.known[before] = (action, before / 8.0, float(not terminated), old_image, self.image)

    def check(self, sample, row):
        number = int(sample.state[row, 0])
        action, reward, bootstrap, image, next_image = self.known[number]
        np.testing.assert_array_equal(sample.state[row], [number, -number])
        np.testing.assert_array_equal(sample.next_state[row], [number + 1, -number - 1])
        np.testing.assert_array_equal(sample.action[row], action)
        assert sample.reward[row, 0] == reward
        assert sample.bootstrap[row, 0] == bootstrap
        if sample.image is not None:
            np.testing.assert_array_equal(sample.image[row], image)
            np.testing.assert_array_equal(sample.next_image[row], next_image)
        return number


def buffer_of(shape=IMAGES, capacity=12, streams=1, seed=0):
    return ReplayBuffer(shape, ACTIONS, capacity=capacity, seed=seed, streams=streams)


def filled(steps=5, **kwargs):
    recorder = Recorder(buffer_of(**kwargs))
    recorder.begin()
    for _ in range(steps):
        recorder.step()
    return recorder


EPISODES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(['terminated', 'truncated', 'cut'])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150)
@given(EPISODES, st.integers(STACK + 2, 20), st.sampled_from([IMAGES, VECTORS]))
@pytest.mark.slow
def test_every_sample_is_a_step_that_was_stored(episodes, capacity, shape):
    recorder = Recorder(buffer_of(shape, capacity))
    for length, how in episodes:
        recorder.begin()
        for i in range(length):
            last = i == length - 1
            recorder.step(
                terminated=last and how == 'terminated', truncated=last and how == 'truncated'
            )
        recorder.buffer.cut()
        try:
            sample = recorder.buffer.sample(64)
        except ReplayError:
            continue  # nothing whole is left
        for row in range(64):
            recorder.check(sample, row)


def test_all_steps_with_their_frames_are_drawn_and_evenly():
    recorder = filled(30, capacity=12)
    sample = recorder.buffer.sample(4000)
    numbers = [recorder.check(sample, row) for row in range(4000)]
    # 31 observations in 12 slots: 20 ... 31. Of these, 20 and 21 lack frames, 31 has no step.
    values, counts = np.unique(numbers, return_counts=True)
    assert values.tolist() == list(range(22, 31))
    assert counts.min() > 4000 / 9 * 0.8


def test_streams_do_not_mix():
    buffer = buffer_of(capacity=24, streams=2)
    recorders = [Recorder(buffer, stream) for stream in (0, 1)]
    for recorder in recorders:
        recorder.begin()
    for i in range(40):
        for recorder in recorders[: 1 + (i % 3 == 0)]:  # one is slower
            recorder.step(truncated=i % 9 == 8)
            if i % 9 == 8:
                recorder.begin()
    sample = buffer.sample(512)
    seen = {recorders[int(sample.state[row, 0] > 1000)].check(sample, row) for row in range(512)}
    assert any(number > 1000 for number in seen)
    assert any(number < 1000 for number in seen)


@pytest.mark.parametrize('streams', [1, 2])
def test_same_seed_draws_the_same(streams):
    first, second = (filled(seed=3, streams=streams, capacity=24) for _ in range(2))
    other = filled(seed=4, streams=streams, capacity=24)
    drawn = [r.buffer.sample(32).state.copy() for r in (first, second, other)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


class TestEndings:
    @pytest.mark.parametrize(
        ('ends', 'bootstrap'),
        [
            ({'terminated': True}, 0.0),
            ({'truncated': True}, 1.0),
            ({'terminated': True, 'truncated': True}, 0.0),  # both at once is a termination
        ],
    )
    def test_only_a_termination_does_not_bootstrap(self, ends, bootstrap):
        recorder = Recorder(buffer_of())
        recorder.begin()
        recorder.step(**ends)
        assert (recorder.buffer.sample(8).bootstrap == bootstrap).all()

    def test_next_image_at_the_end_is_the_real_last_one(self):
        recorder = filled(4)
        recorder.step(truncated=True)
        recorder.begin()
        sample = recorder.buffer.sample(200)
        assert {recorder.check(sample, row) for row in range(200)} == {1, 2, 3, 4, 5}

    def test_no_step_follows_an_end(self):
        recorder = filled(1)
        recorder.step(truncated=True)
        with pytest.raises(ReplayError, match='no episode'):
            recorder.step()

    def test_cut_stores_nothing_across(self):
        recorder = filled(2)
        recorder.buffer.cut()
        recorder.begin()
        recorder.step()
        sample = recorder.buffer.sample(200)
        assert {recorder.check(sample, row) for row in range(200)} == {1, 2, 4}


class TestSeveralSteps:
    @pytest.mark.parametrize(('terminated', 'last'), [(True, 0.0), (False, 1.0)])
    def test_sum_stops_at_the_end(self, terminated, last):
        recorder = filled(3, shape=VECTORS, capacity=12)
        recorder.step(terminated=terminated, truncated=not terminated)
        sample = recorder.buffer.sample(300, n_step=3, discount=0.5)
        for row in range(300):
            number = int(sample.state[row, 0])
            steps = min(3, 5 - number)
            reward = sum(0.5**i * (number + i) / 8.0 for i in range(steps))
            assert sample.reward[row, 0] == pytest.approx(reward)
            assert sample.next_state[row, 0] == number + steps
            end = last if number + steps == 5 else 1.0
            assert sample.bootstrap[row, 0] == end * 0.5 ** (steps - 1)

    def test_sum_stops_at_the_newest(self):
        recorder = filled(2, shape=VECTORS)
        sample = recorder.buffer.sample(100, n_step=9, discount=0.5)
        assert (sample.next_state[:, 0] == 3).all()
        assert set(sample.bootstrap[:, 0]) == {1.0, 0.5}


def test_transition_of_84_by_84_takes_at_most_9_kb():
    shape = ObservationShape(
        state_size=4, image_shape=(4, 84, 84), frame_stack=4, privileged_size=64
    )
    arrays = ReplayBuffer(shape, 2, capacity=1000, seed=0)._arrays().values()
    assert sum(array.nbytes for array in arrays) / 1000 < 9000


def test_images_are_copied_when_stored():
    recorder = filled(3)
    recorder.image[:] = 99  # as an environment that reuses its memory
    sample = recorder.buffer.sample(100)
    assert (sample.next_image[sample.state[:, 0] == 3] != 99).all()


class TestSaving:
    @pytest.mark.parametrize('steps', [0, 1, 7, 40])
    def test_restored_buffer_goes_on_alike(self, steps):
        recorder = filled(steps)
        copy = buffer_of(seed=9)
        copy.restore(*recorder.buffer.state())
        for buffer in (recorder.buffer, copy):
            twin = Recorder(buffer)
            twin.number, twin.image = recorder.number, recorder.image
            for _ in range(5):
                twin.step()
        for mine, theirs in zip(recorder.buffer.sample(64), copy.sample(64), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_other_sizes_are_rejected(self):
        arrays, facts = filled().buffer.state()
        with pytest.raises(ReplayError, match=r"'room': 12.*expected.*'room': 20"):
            buffer_of(capacity=20).restore(arrays, facts)
        with pytest.raises(ReplayError, match='frames'):
            buffer_of(VECTORS).restore(arrays, facts)


class TestFragments:
    """What goes from buffer to buffer is what would have been stored at once."""

    @settings(max_examples=150)
    @given(EPISODES, st.sampled_from([IMAGES, VECTORS]), st.lists(st.booleans(), max_size=6))
    def test_they_make_the_same_buffer(self, episodes, shape, sent):
        whole = Recorder(buffer_of(shape, 40, streams=2), stream=1)
        worker = Recorder(buffer_of(shape, 100))
        worker.number = whole.number
        learner = buffer_of(shape, 40, streams=2)
        send_now = iter(sent)
        for length, how in episodes:
            whole.begin()
            worker.begin()
            for i in range(length):
                last = i == length - 1
                end = {'terminated': last and how == 'terminated'}
                end['truncated'] = last and how == 'truncated'
                whole.step(**end)
                worker.step(**end)
                if next(send_now, True):
                    learner.extend(worker.buffer.take(), 1)
            if how == 'cut':
                whole.buffer.cut(1)
                worker.buffer.cut()
        learner.extend(worker.buffer.take(), 1)
        self.check_same(learner, whole.buffer)

    def check_same(self, one, other):
        """Whether two buffers hold the same; nobody looks at the step of a slot without one."""
        (mine, facts), (theirs, wanted) = one.state(), other.state()
        assert facts == wanted
        steps = theirs['has_action']
        for name in ('frames', 'vectors', 'positions', 'has_action'):
            np.testing.assert_array_equal(mine[name], theirs[name])
        for name in ('actions', 'rewards', 'bootstraps'):
            np.testing.assert_array_equal(mine[name][steps], theirs[name][steps])

    def test_an_image_that_follows_one_is_checked(self):
        worker, learner = filled(3), buffer_of()
        learner.extend(worker.buffer.take())
        worker.step()
        learner.extend(worker.buffer.take())
        twin = Recorder(learner)
        twin.number, twin.image = worker.number, worker.image
        twin.step()  # it knows the newest image
        assert learner.transitions == 5

    def test_one_is_as_large_as_its_steps(self):
        worker = filled(5)
        assert worker.buffer.take().transitions == 5
        assert len(worker.buffer.take().rewards) == 0
        worker.step()
        fragment = worker.buffer.take()
        assert (fragment.transitions, len(fragment.rewards), fragment.continues) == (1, 2, True)

    def test_a_cut_stands_between_a_worker_and_its_successor(self):
        first, second, learner = filled(3), filled(2), buffer_of()
        learner.extend(first.buffer.take())
        learner.cut()
        learner.extend(second.buffer.take())
        sample = learner.sample(200)
        assert (sample.state[:, 0] + 1 == sample.next_state[:, 0]).all()
        assert learner.transitions == 5

    @pytest.mark.parametrize('between', ['cut', 'other'])
    def test_one_that_continues_nothing_is_rejected(self, between):
        worker, learner = filled(3), buffer_of()
        learner.extend(worker.buffer.take())
        if between == 'cut':
            learner.cut()
        else:
            Recorder(learner).begin()
        worker.step()
        with pytest.raises(ReplayError, match='does not continue the episode of stream 0'):
            learner.extend(worker.buffer.take())

    def test_sizes_are_checked(self):
        with pytest.raises(ReplayError, match=r'frames must be \(0,\) uint8 each, got \(4,\)'):
            buffer_of(VECTORS).extend(filled().buffer.take())
        with pytest.raises(ReplayError, match='a fragment must have <= 12 observations, got 21'):
            buffer_of().extend(filled(20, capacity=40).buffer.take())
        with pytest.raises(ReplayError, match='a fragment must have <= 12 observations, got 21'):
            filled(20).buffer.take()


class TestRejections:
    @pytest.mark.parametrize(
        ('change', 'said'),
        [
            ({'state': np.zeros(2, np.float32)}, r'state must have 1 numbers, got \(2,\)'),
            ({'state': np.array([np.nan])}, 'state must be finite'),
            ({'privileged': None}, 'privileged must have 1'),
            ({'image': None}, r'image must be \(3, 2, 2\) uint8, got None'),
            ({'image': np.zeros((3, 2, 2))}, 'got .* float64'),
        ],
    )
    def test_observation(self, change, said):
        recorder = filled()
        with pytest.raises(ReplayError, match=said):
            recorder.buffer.begin(recorder.observed(fresh=True)._replace(**change))

    def test_image_that_is_no_stack(self):
        recorder = filled()
        with pytest.raises(ReplayError, match='moved on by one'):
            recorder.buffer.add(
                np.zeros(2, np.float32),
                0.0,
                recorder.observed(fresh=False)._replace(image=np.full((3, 2, 2), 7, np.uint8)),
                terminated=False,
                truncated=False,
            )
        with pytest.raises(ReplayError, match='repeat its frame'):
            recorder.buffer.begin(recorder.observed(fresh=False))

    @pytest.mark.parametrize(
        ('action', 'reward', 'said'),
        [
            (np.zeros(3), 0.0, 'action must be'),
            (np.array([0.0, np.nan]), 0.0, 'must be finite'),
            (np.zeros(2), np.inf, 'must be finite'),
        ],
    )
    def test_step(self, action, reward, said):
        recorder = filled()
        seen = recorder.observed(fresh=False)
        with pytest.raises(ReplayError, match=said):
            recorder.buffer.add(action, reward, seen, terminated=False, truncated=False)

    def test_sampling_nothing(self):
        with pytest.raises(ReplayError, match='nothing to sample'):
            buffer_of().sample(1)
        with pytest.raises(ReplayError, match='nothing to sample'):
            filled(0).buffer.sample(1)

    def test_sizes(self):
        with pytest.raises(ReplayError, match='frame_stack must divide the 4'):
            ObservationShape(state_size=1, image_shape=(4, 8, 8), frame_stack=3)
        with pytest.raises(ReplayError, match='state_size must be > 0'):
            ObservationShape(state_size=0)
        with pytest.raises(ReplayError, match=r'expert_size must be in \[0, .* = 2\], got 3'):
            ObservationShape(state_size=1, privileged_size=2, expert_size=3)
        with pytest.raises(ReplayError, match='capacity must be >= 5'):
            buffer_of(capacity=4)


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_still_stacks_hold_their_newest_frame_alone(share):
    sample = filled(12).buffer.sample(64, still_share=share)
    for stacks in (sample.image, sample.next_image):
        moving = (stacks[:, :1] != stacks).any(axis=(1, 2, 3))
        assert moving.any() == (share == 0.0)
    assert (sample.image[:, -1, 0, 0] == sample.state[:, 0] % 251).all()


def test_share_of_still_stacks():
    image = filled(12).buffer.sample(4000, still_share=0.25).image
    first = filled(12).buffer.sample(4000).image
    still, usual = ((one[:, :1] == one).all(axis=(1, 2, 3)).mean() for one in (image, first))
    assert still == pytest.approx(0.25 + 0.75 * usual, abs=0.04)


def test_tone_curves_change_levels_and_keep_edges():
    curves = tone_curves(200, np.random.default_rng(0)).astype(int)
    assert curves.shape == (200, 256)
    assert curves.mean() == pytest.approx(127.5, abs=5.0)
    falls = (np.diff(curves) < 0).any(axis=1)
    assert 0.9 < falls.mean() <= 1.0  # no level means anything
    assert np.abs(np.diff(curves)).max() <= 6  # 255 levels in 51: what was near stays near


def test_transition_has_one_tone_curve():
    sample = filled(12).buffer.sample(64, tone_share=1.0)
    plain = filled(12).buffer.sample(64)
    for toned, image in ((sample.image, plain.image), (sample.next_image, plain.next_image)):
        assert (toned != image).any()
    both = np.concatenate((sample.image, sample.next_image), axis=1)
    known = np.concatenate((plain.image, plain.next_image), axis=1)
    for toned, image in zip(both, known, strict=True):
        for level in np.unique(image):
            assert len(np.unique(toned[image == level])) == 1
