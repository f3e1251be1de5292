# SPDX-License-Identifier: Apache-2.0
"""Makes all environments of this package known to Gymnasium, importing none of them.

Either ``gymnasium.make('td3_agent.envs:td3_agent/Driving-v0')``, which imports this module by
itself, or ``import td3_agent.envs`` and then ``gymnasium.make('td3_agent/Driving-v0')``. What an
environment needs, such as CARLA's wheel or ROS 2, is imported when it is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Gymnasium before 1.0 calls register() while gymnasium itself is still being imported.
from gymnasium.envs.registration import load_env_creator, registry
from gymnasium.envs.registration import register as register_env

from td3_agent.training.env_ids import MODULES

if TYPE_CHECKING:
    import gymnasium


def make(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:  # noqa: ANN401  of any of them
    """Return an environment without wrappers; for Gymnasium, which calls it by its name."""
    import_module(MODULES[env_id]).register()  # in the place of the entry made here
    spec = registry[env_id]
    creator: Any = load_env_creator(str(spec.entry_point))
    made: gymnasium.Env[Any, Any] = creator(**{**spec.kwargs, **kwargs})
    return made


def register() -> None:
    """Register those that are not registered; doing it twice is harmless."""
    for env_id in MODULES:
        if env_id not in registry:
            register_env(id=env_id, entry_point=f'{__name__}:make', kwargs={'env_id': env_id})


register()
