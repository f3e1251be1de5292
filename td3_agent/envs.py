# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Registers all environments of this package with Gymnasium without importing them.

Either ``gymnasium.make('td3_agent.envs:td3_agent/Driving-v0')``, which imports this module, or
``import td3_agent.envs`` and then ``gymnasium.make('td3_agent/Driving-v0')``. Dependencies such as
CARLA's wheel or ROS 2 are imported when an environment is made.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Gymnasium before 1.0 calls register() while gymnasium itself is still being imported.
from gymnasium.envs.registration import load_env_creator, registry
from gymnasium.envs.registration import register as register_env

if TYPE_CHECKING:
    import gymnasium

# Only the module of the environment in use is imported: one needs CARLA's wheel, one needs ROS 2.
MODULES = {
    'td3_agent/Driving-v0': 'td3_agent.sim.env',
    'td3_agent/RosDriving-v0': 'td3_agent.evaluation.ros_env',
    'td3_agent/RosDrivingRunning-v0': 'td3_agent.evaluation.ros_env',
    'td3_agent/LaneTraining-v0': 'td3_agent.sim.random_env',
    'td3_agent/LaneValidation-v0': 'td3_agent.sim.random_env',
    'td3_agent/RouteTraining-v0': 'td3_agent.sim.random_env',
    'td3_agent/RouteValidation-v0': 'td3_agent.sim.random_env',
    'td3_agent/Identity-v0': 'td3_agent.training.tasks',
    'td3_agent/Spot-v0': 'td3_agent.training.tasks',
}

# Environments that share a bridge in turns, which works only within one process.
IN_TURNS = ('td3_agent/RosDrivingRunning-v0',)


def make(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:  # noqa: ANN401  of any of them
    """Return an environment without wrappers; the entry point for Gymnasium."""
    import_module(MODULES[env_id]).register()  # replaces the entry made here
    spec = registry[env_id]
    creator: Any = load_env_creator(str(spec.entry_point))
    made: gymnasium.Env[Any, Any] = creator(**{**spec.kwargs, **kwargs})
    return made


def register() -> None:
    """Register the environments that are not registered yet."""
    for env_id in MODULES:
        if env_id not in registry:
            register_env(id=env_id, entry_point=f'{__name__}:make', kwargs={'env_id': env_id})


def with_module(env_id: str) -> str:
    """Return an id that ``gymnasium.make`` understands; other packages' ids stay."""
    name = env_id.rpartition(':')[2]
    return f'{MODULES[name]}:{name}' if name in MODULES else env_id


def did_you_mean(env_id: str) -> str:
    """Return a hint with environments of similar names; empty for one of this package."""
    name = env_id.rpartition(':')[2]
    namespace, _, short = name.rpartition('/')
    if name in MODULES or not name:
        return ''
    ours = {known.partition('/')[2]: known for known in MODULES}
    near = [ours[match] for match in get_close_matches(short, ours, n=1)]
    if not near and not get_close_matches(namespace, ['td3_agent']):
        return ''
    meant = f' Did you mean {near[0]}?' if near else ''
    return f'{meant} td3_agent has {", ".join(ours.values())}'


register()
