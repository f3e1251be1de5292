# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""From Gymnasium spaces to the learner's terms: what the simulator knows, experts included."""

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest

from td3_agent.training.spaces import TaskSpaces, denormalised, normalised


class Advised(gymnasium.Env):
    """Shows an expert's action; its own actions are from 0 to 4 and from -1 to 1."""

    def __init__(self, expert_size=2, **others):
        self.action_space = spaces.Box(np.array([0.0, -1.0], 'f'), np.array([4.0, 1.0], 'f'))
        expert = spaces.Box(-10.0, 10.0, (expert_size,))
        state = spaces.Box(-1.0, 1.0, (3,))
        self.observation_space = spaces.Dict({'state': state, 'expert': expert, **others})


def shown(**parts):
    parts = {'state': [0, 0, 0], 'expert': [1.0, 0.5]} | parts
    return {name: np.array(value, np.float32) for name, value in parts.items()}


def test_expert_is_privileged_and_in_the_learner_s_terms():
    found = TaskSpaces.of(Advised())
    assert (found.shape.privileged_size, found.shape.expert_size) == (2, 2)
    assert found.observed(shown()).privileged.tolist() == [-0.5, 0.5]
    assert found.observed(shown(expert=[9.0, -3.0])).privileged.tolist() == [1.0, -1.0]


def test_expert_comes_after_what_else_the_simulator_knows():
    found = TaskSpaces.of(Advised(privileged=spaces.Box(-1.0, 1.0, (1,))))
    assert (found.shape.privileged_size, found.shape.expert_size) == (3, 2)
    observed = found.observed(shown(privileged=[0.25]))
    assert observed.privileged.tolist() == [0.25, -0.5, 0.5]


def test_expert_must_be_an_action():
    with pytest.raises(ValueError, match='expert must have 2 numbers, got 3'):
        TaskSpaces.of(Advised(expert_size=3))


def test_normalised_actions_reach_unequal_bounds():
    low, high = np.array([-2.0, 0.0], 'f'), np.array([2.0, 0.5], 'f')
    np.testing.assert_allclose(denormalised(np.array([-1.0, 1.0]), low, high), [-2.0, 0.5])
    np.testing.assert_allclose(denormalised(np.array([0.0, 0.0]), low, high), [0.0, 0.25])
    action = np.array([0.3, 0.1])
    np.testing.assert_allclose(denormalised(normalised(action, low, high), low, high), action)
