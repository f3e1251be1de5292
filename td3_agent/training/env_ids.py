# SPDX-License-Identifier: Apache-2.0
"""Names of this package's environments, for people; Gymnasium wants the module before them."""

from __future__ import annotations

from difflib import get_close_matches

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

# Environments that share something by taking turns, which works within one process.
IN_TURNS = ('td3_agent/RosDrivingRunning-v0',)


def with_module(env_id: str) -> str:
    """Return an id that ``gymnasium.make`` understands; others' ids are left as they are."""
    name = env_id.rpartition(':')[2]
    return f'{MODULES[name]}:{name}' if name in MODULES else env_id


def did_you_mean(env_id: str) -> str:
    """Return which environments of this package may have been meant; empty if it is one."""
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
