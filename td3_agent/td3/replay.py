# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Replay buffer: every observation is stored once, image stacks are rebuilt at sampling.

A ring of slots. A slot holds an observation (newest frame and vectors), and, once the step has
been taken, its action, reward and bootstrap factor. The next observation of slot i
is slot i + 1, so the last observation of an episode takes a slot without an action, which is
never sampled as a start. One 84 x 84 grey transition takes 7.1 kB::

    slot        0     1     2     3     4     5
    frame       o0    o1    o2    o3    o0'   o1'       o3 ends the first episode
    action      a0    a1    a2    -     a0'   -         o1' is the newest: step not taken yet
    position    0     1     2     3     0     1         steps since the episode began

Each environment writes to its own stream, a ring beside the others. Fragments, runs of slots,
carry the content of a stream to another buffer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.td3.transitions import Fragment, ObservationShape, Observed, ReplayError, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


TONES = 6  # levels that are drawn for a tone curve


class ReplayBuffer:
    """Stores steps of one or more environments and samples transitions uniformly."""

    def __init__(
        self,
        shape: ObservationShape,
        action_size: int,
        *,
        capacity: int,
        seed: int | np.random.SeedSequence,
        streams: int = 1,
    ) -> None:
        """Reserve the memory; the system provides pages as they are filled.

        Args:
            shape: sizes of an observation.
            action_size: numbers in an action.
            capacity: slots of all streams together.
            seed: of the generator that draws samples.
            streams: environments that write.

        Raises:
            ReplayError: a stream has no room for a transition with its frames.
        """
        self._room = capacity // streams
        least = max(shape.frame_stack, 1) + 2
        if self._room < least:
            raise ReplayError(f'capacity must be >= {least * streams}, got {capacity}')
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self._streams = streams
        slots = self._room * streams
        frame = shape.frame_shape
        pixels = 0 if frame is None else int(np.prod(frame))
        self._frames: NDArray[np.uint8] = np.zeros((slots, pixels), np.uint8)
        self._vectors = np.zeros((slots, shape.state_size + shape.privileged_size), np.float32)
        self._actions = np.zeros((slots, action_size), np.float32)
        self._rewards = np.zeros(slots, np.float32)
        self._bootstraps = np.zeros(slots, np.float32)  # 0 where terminated, 1 elsewhere
        self._positions = np.zeros(slots, np.uint8)  # up to frame_stack - 1
        self._has_action = np.zeros(slots, np.bool_)
        self._written = np.zeros(streams, np.int64)  # observations ever written, by stream
        self._taken = np.zeros(streams, np.int64)  # of these, how many went into fragments
        self._open = np.zeros(streams, np.bool_)  # whether an episode is open
        self._images: list[NDArray[np.uint8] | None] = [None] * streams  # newest, to compare

    @property
    def transitions(self) -> int:
        """Number of stored steps, whether they can be sampled or not."""
        return int(self._has_action.sum())

    @property
    def largest_reward(self) -> float:
        """Largest magnitude of a stored reward."""
        return float(np.abs(self._rewards[self._has_action]).max(initial=0.0))

    def states(self) -> NDArray[np.float32]:
        """Return a copy of the state vectors from which a step was taken, (N, state_size)."""
        return self._vectors[self._has_action, : self.shape.state_size]

    def newest(self, stream: int = 0) -> Observed:
        """Return a copy of the last observation of a stream.

        Raises:
            ReplayError: it has none.
        """
        if self._written[stream] == 0:
            raise ReplayError(f'stream {stream} has no observation yet')
        vector = self._vectors[self._newest(stream)].copy()
        states = self.shape.state_size
        privileged = vector[states:] if self.shape.privileged_size else None
        return Observed(vector[:states], self._newest_image(stream), privileged)

    # ---- Writing --------------------------------------------------------------------------------

    def begin(self, observed: Observed, stream: int = 0) -> None:
        """Begin an episode; an open one is cut, without a transition across.

        Raises:
            ReplayError: the observation does not fit, or its image is no stack of one frame.
        """
        self.shape.check(observed)
        image, shape = observed.image, self.shape
        if image is not None and shape.frame_stack > 1:
            frames = image.reshape(shape.frame_stack, -1)
            if (frames != frames[-1]).any():
                raise ReplayError('the first image must repeat its frame through the stack')
        self._write(observed, stream, position=0)
        self._open[stream] = True

    def add(  # noqa: PLR0913  what a step is made of
        self,
        action: NDArray[np.float32],
        reward: float,
        observed: Observed,
        *,
        terminated: bool,
        truncated: bool,
        stream: int = 0,
    ) -> None:
        """Store one step from the newest observation.

        Args:
            action: (actions,) in [-1, 1].
            reward: finite.
            observed: the next observation, also at the end of an episode.
            terminated: the target does not bootstrap.
            truncated: the episode was cut off: the target bootstraps.
            stream: environment it comes from.

        Raises:
            ReplayError: no episode is open, or something does not fit.
        """
        if not self._open[stream]:
            raise ReplayError('no episode is open, call begin first')
        if np.shape(action) != self._actions.shape[1:]:
            expected = self._actions.shape[1:]
            raise ReplayError(f'action must be {expected}, got {np.shape(action)}')
        if not (np.isfinite(action).all() and np.isfinite(reward)):
            raise ReplayError(f'action and reward must be finite, got {action} and {reward}')
        self.shape.check(observed)
        self._check_stack(observed, stream)
        slot = self._newest(stream)
        self._actions[slot] = action
        self._rewards[slot] = reward
        self._bootstraps[slot] = 0.0 if terminated else 1.0
        self._has_action[slot] = True
        position = min(int(self._positions[slot]) + 1, self.shape.frame_stack - 1)
        self._write(observed, stream, position)
        self._open[stream] = not (terminated or truncated)

    def cut(self, stream: int = 0) -> None:
        """End the episode without a last step, as after a crash."""
        self._open[stream] = False

    # ---- Fragments ------------------------------------------------------------------------------

    def take(self, stream: int = 0) -> Fragment:
        """Return a copy of the steps of a stream since the last call.

        Raises:
            ReplayError: they are more than the stream has room for.
        """
        first, end = int(self._taken[stream]), int(self._written[stream])
        self._taken[stream] = end
        continues = first > 0 and bool(self._has_action[self._slots(stream, first - 1)])
        first -= continues
        slots = self._slots(stream, self._room_for(first, end))
        arrays = {name: array[slots] for name, array in self._arrays().items()}
        return Fragment(**arrays, continues=continues, open=bool(self._open[stream]))

    def extend(self, fragment: Fragment, stream: int = 0) -> None:
        """Store a fragment of another buffer.

        Raises:
            ReplayError: its sizes differ, or it does not continue the episode of the stream.
        """
        first = int(self._written[stream]) - fragment.continues
        end = first + len(fragment.rewards)
        numbers = self._room_for(first, end)
        newest = self._vectors[self._newest(stream)]
        if fragment.continues and not (
            self._open[stream] and np.array_equal(newest, fragment.vectors[0])
        ):
            raise ReplayError(f'the fragment does not continue the episode of stream {stream}')
        slots = self._slots(stream, numbers)
        for name, array in self._arrays().items():
            given = getattr(fragment, name)
            if given.shape[1:] != array.shape[1:] or given.dtype != array.dtype:
                raise ReplayError(
                    f'{name} must be {array.shape[1:]} {array.dtype} each, '
                    f'got {given.shape[1:]} {given.dtype}'
                )
            array[slots] = given
        self._written[stream] = end
        self._open[stream] = fragment.open
        self._images[stream] = self._newest_image(stream)

    def _room_for(self, first: int, end: int) -> NDArray[np.int64]:
        """Return the numbers of a fragment's observations.

        Raises:
            ReplayError: a stream has no room for them.
        """
        if end - first > self._room:
            raise ReplayError(
                f'a fragment must have <= {self._room} observations, got {end - first}'
            )
        return np.arange(first, end)

    def _slots(self, stream: int, numbers: Any) -> Any:  # noqa: ANN401  one or an array
        """Return the slots of a stream's observations, by their numbers since the start."""
        return stream * self._room + numbers % self._room

    def _newest(self, stream: int) -> int:
        """Return the slot of a stream's last observation."""
        return int(self._slots(stream, int(self._written[stream]) - 1))

    def _write(self, observed: Observed, stream: int, position: int) -> None:
        slot = self._slots(stream, int(self._written[stream]))
        states = self.shape.state_size
        self._vectors[slot, :states] = observed.state
        if observed.privileged is not None:
            self._vectors[slot, states:] = observed.privileged
        if observed.image is not None:
            pixels = self._frames.shape[1]
            self._frames[slot] = observed.image.reshape(-1)[-pixels:]
            self._images[stream] = observed.image.copy()  # environments reuse their memory
        self._positions[slot] = position
        self._has_action[slot] = False
        self._written[stream] += 1

    def _check_stack(self, observed: Observed, stream: int) -> None:
        """Reject images that are not the last ones moved on by one frame."""
        previous, image = self._images[stream], observed.image
        if image is None or previous is None or self.shape.frame_stack == 1:
            return
        pixels = self._frames.shape[1]
        if not np.array_equal(image.reshape(-1)[:-pixels], previous.reshape(-1)[pixels:]):
            raise ReplayError(
                f'the image must be the last one moved on by one of {self.shape.frame_stack} '
                'frames; is frame_stack right?'
            )

    # ---- Sampling -------------------------------------------------------------------------------

    def sample(
        self,
        size: int,
        *,
        n_step: int = 1,
        discount: float = 1.0,
        still_share: float = 0.0,
        tone_share: float = 0.0,
    ) -> Sample:
        """Draw transitions uniformly, with replacement.

        Args:
            size: how many (B).
            n_step: rewards summed, fewer at the end of an episode.
            discount: of the second and later of those rewards.
            still_share: fraction of image stacks that repeat their newest frame, as at the start
                of an episode, against imitation of past motion (copycat problem, Wen et al. 2020,
                arXiv:2010.14876).
            tone_share: fraction of transitions whose grey levels pass a random curve, see
                :func:`tone_curves`.

        Raises:
            ReplayError: nothing can be sampled yet.
        """
        slots = self._draw(size)
        reward, bootstrap = self._rewards[slots], self._bootstraps[slots]
        following = self._after(slots)
        for i in range(1, n_step):
            # A slot without a step is the end of its episode, or the newest observation.
            is_open = self._has_action[following]
            reward += np.where(is_open, discount**i * self._rewards[following], 0.0)
            grown = discount * bootstrap * self._bootstraps[following]
            bootstrap = np.where(is_open, grown, bootstrap)
            following = np.where(is_open, self._after(following), following)
        image, next_image = self._stack(slots), self._stack(following)
        if image is not None and next_image is not None:
            self._vary(image, next_image, still_share, tone_share)
        return Sample(
            self._vectors[slots],
            image,
            self._actions[slots],
            reward[:, np.newaxis],
            bootstrap[:, np.newaxis].astype(np.float32),
            self._vectors[following],
            next_image,
        )

    def _vary(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8],
        still_share: float,
        tone_share: float,
    ) -> None:
        """Make some stacks still and vary some tones; see :meth:`sample`."""
        size = len(image)
        if still_share:
            still = self.rng.random(size) < still_share
            image[still] = image[still, -1:]
            next_image[still] = next_image[still, -1:]
        if tone_share:
            toned = np.flatnonzero(self.rng.random(size) < tone_share)
            curves = tone_curves(len(toned), self.rng)
            for row, curve in zip(toned, curves, strict=True):
                image[row] = curve[image[row]]
                next_image[row] = curve[next_image[row]]

    def _draw(self, size: int) -> NDArray[np.int64]:
        """Return slots that have a step and all frames of their stack, uniformly drawn."""
        starts = np.maximum(np.minimum(self._written, self._room) - 1, 0)  # the newest has none
        ends = np.cumsum(starts)
        slots = np.empty(size, np.int64)
        wanted = np.arange(size)
        while wanted.size:
            drawn = self.rng.integers(0, max(ends[-1], 1), wanted.size)
            found, good = self._valid(drawn, starts, ends)
            if not good.any():  # rare, except in an empty buffer
                self._reject_empty(starts, ends)
            slots[wanted] = found
            wanted = wanted[~good]
        return slots

    def _valid(
        self, drawn: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return slots by number, oldest first and stream by stream, and whether each is valid."""
        stream: Any = 0  # usually there is one stream
        if self._streams > 1:
            stream = np.minimum(np.searchsorted(ends, drawn, side='right'), self._streams - 1)
        age = drawn - (ends[stream] - starts[stream])  # 0 is the oldest
        oldest = np.maximum(self._written[stream] - self._room, 0)
        slots = stream * self._room + (oldest + age) % self._room
        # The oldest slots may have lost the frames before them.
        return slots, self._has_action[slots] & (self._positions[slots] <= age)

    def _reject_empty(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        if not self._valid(np.arange(ends[-1]), starts, ends)[1].any():
            raise ReplayError('nothing to sample: no whole transition is stored')

    def _after(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the slots one step later, within each stream's ring."""
        return slots - slots % self._room + (slots + 1) % self._room

    def _stack(self, slots: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Rebuild the image stacks of slots; before an episode's first frame it is repeated."""
        if self.shape.image_shape is None:
            return None
        back = np.arange(self.shape.frame_stack - 1, -1, -1)
        back = np.minimum(back, self._positions[slots][:, np.newaxis])  # (B, stack)
        within = (slots % self._room)[:, np.newaxis]
        where = slots[:, np.newaxis] - within + (within - back) % self._room
        frames = np.take(self._frames, where.reshape(-1), axis=0)
        return frames.reshape(len(slots), *self.shape.image_shape)

    # ---- Saving ---------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            'frames': self._frames,
            'vectors': self._vectors,
            'actions': self._actions,
            'rewards': self._rewards,
            'bootstraps': self._bootstraps,
            'positions': self._positions,
            'has_action': self._has_action,
        }

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state to save: arrays (views of the filled part) and plain JSON."""
        used = self._used()
        arrays = {
            name: array.reshape(self._streams, self._room, *array.shape[1:])[:, :used]
            for name, array in self._arrays().items()
        }
        facts = {
            'streams': self._streams,
            'room': self._room,
            'written': self._written.tolist(),
            'open': self._open.tolist(),
            'rng': self.rng.bit_generator.state,
        }
        return arrays, facts

    def restore(self, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
        """Restore :meth:`state`, random numbers included.

        Raises:
            ReplayError: the saved buffer has other sizes.
        """
        sizes = {'streams': self._streams, 'room': self._room}
        given = {name: facts[name] for name in sizes}
        if given != sizes:
            raise ReplayError(f'the saved buffer has {given}, expected {sizes}')
        self._written[:] = facts['written']
        self._open[:] = facts['open']
        used = self._used()
        for name, array in self._arrays().items():
            mine = array.reshape(self._streams, self._room, *array.shape[1:])
            if arrays[name].shape != mine[:, :used].shape or arrays[name].dtype != array.dtype:
                raise ReplayError(
                    f'saved {name} are {arrays[name].shape} {arrays[name].dtype}, '
                    f'expected {mine[:, :used].shape} {array.dtype}'
                )
            mine[:, :used] = arrays[name]
            mine[:, used:] = 0
        self._images = [self._newest_image(stream) for stream in range(self._streams)]
        self.rng.bit_generator.state = facts['rng']

    def _newest_image(self, stream: int) -> NDArray[np.uint8] | None:
        if self._written[stream] == 0:
            return None
        image = self._stack(np.array([self._newest(stream)]))
        return None if image is None else image[0]

    def _used(self) -> int:
        """Return the number of filled slots of the fullest stream."""
        return int(np.minimum(self._written, self._room).max())


def tone_curves(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return random curves from grey level to grey level, (count, 256).

    Piecewise linear between independent random levels: edges stay, brightness loses its meaning.
    """
    places = np.linspace(0.0, 255.0, TONES)
    levels = rng.uniform(0.0, 255.0, (count, TONES))
    curves = [np.interp(np.arange(256), places, drawn) for drawn in levels]
    return np.array(curves).reshape(count, 256).astype(np.uint8)
