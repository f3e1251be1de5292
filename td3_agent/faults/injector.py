# SPDX-License-Identifier: Apache-2.0
"""The injector process, as whoever starts it sees it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Program
from td3_agent.nodes import topics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

MODULE = 'td3_agent.faults.injector_node'
UPSTREAM = '/upstream'
PATIENCE_S = 30.0
ROLE, CAMERA = 'ego_vehicle', 'camera'

ODOMETRY = topics.odometry(ROLE)
IMAGE = topics.image(ROLE, CAMERA)
CLOCK = '/clock'
VEHICLE_INFO = topics.vehicle_info(ROLE)
VEHICLE_STATUS = topics.vehicle_status(ROLE)
WAYPOINTS = topics.waypoints(ROLE)
STATUS, STEP = topics.STATUS, topics.CONTROL
CONTROL = topics.control(ROLE)
TWIST = topics.twist_stamped(ROLE)


@dataclass(frozen=True)
class Relay:
    """A topic that goes through the injector.

    Attributes:
        topic: as the nodes know it.
        type: ``package/msg/Name``.
        source: where messages come from.
        sink: where they go to.
        latched: whether the last message is kept for those who come late.
        upwards: whether it goes from the nodes to the bridge.
    """

    topic: str
    type: str
    source: str
    sink: str
    latched: bool = False
    upwards: bool = False


FROM_BRIDGE = {
    ODOMETRY: ('nav_msgs/msg/Odometry', False),
    IMAGE: ('sensor_msgs/msg/Image', False),
    CLOCK: ('rosgraph_msgs/msg/Clock', False),
    STATUS: ('carla_msgs/msg/CarlaStatus', False),
    VEHICLE_STATUS: ('carla_msgs/msg/CarlaEgoVehicleStatus', False),
    VEHICLE_INFO: ('carla_msgs/msg/CarlaEgoVehicleInfo', True),
    WAYPOINTS: ('nav_msgs/msg/Path', True),
}
TO_BRIDGE = {
    STEP: 'carla_msgs/msg/CarlaControl',
    CONTROL: 'carla_msgs/msg/CarlaEgoVehicleControl',
}


def relay(topic: str) -> Relay:
    """Return the relay of a topic of the bridge, in the right direction.

    Raises:
        ValueError: the bridge has no such topic, or it cannot be relayed.
    """
    if topic in FROM_BRIDGE:
        kind, latched = FROM_BRIDGE[topic]
        return Relay(topic, kind, UPSTREAM + topic, topic, latched)
    if topic in TO_BRIDGE:
        return Relay(topic, TO_BRIDGE[topic], topic, UPSTREAM + topic, upwards=True)
    known = ', '.join([*FROM_BRIDGE, *TO_BRIDGE])
    raise ValueError(f'topic must be one of {known}; got {topic}')


def remappings(names: Sequence[str]) -> list[str]:
    """Return the words that make the bridge speak and listen upstream of the injector."""
    return [word for name in names for word in ('-r', f'{name}:={UPSTREAM}{name}')]


class Injector:
    """The injector, running; leaving the context ends it."""

    def __init__(self, names: Sequence[str], seed: object, environment: Mapping[str, str]) -> None:
        """Relay the topics of these names; no rules yet."""
        relays = json.dumps([asdict(relay(name)) for name in names])
        self._program = Program(MODULE, str(seed), relays, environment=environment)

    def rule(self, topic: str, *rules: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        """Replace the rules of one topic; return the counts of all topics up to now."""
        return self.rules({topic: list(rules)})

    def rules(self, rules: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, int]]:
        """Replace the rules of some topics, all at once; return the counts up to now.

        Raises:
            ValueError: the injector refused them, or has ended.
        """
        return self._ask({'rules': {topic: list(found) for topic, found in rules.items()}})

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what became of messages, by topic, since its rules were last replaced."""
        return self._ask({})

    def _ask(self, words: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        answer = self._program.ask(json.dumps(words), PATIENCE_S)
        if 'error' in answer:
            raise ValueError(f'injector: {answer["error"]}')
        counts: dict[str, dict[str, int]] = answer['counts']
        return counts

    def __enter__(self) -> Self:
        """Return the injector itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End it."""
        self._program.__exit__(*exception)
