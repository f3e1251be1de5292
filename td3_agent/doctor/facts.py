# SPDX-License-Identifier: Apache-2.0
"""What gatherers tell the checks of a machine and of a graph. Plain values, no library."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Import:
    """What became of importing a module, in a process of its own.

    Attributes:
        version: what the module says of itself; empty where it says nothing.
        path: file or folder that it came from; empty where the import failed.
        error: why it failed; empty where it did not.
        missing: there is no such module at all.
        alone: whether it can be imported with no other before it; None where that was not tried.
    """

    version: str = ''
    path: str = ''
    error: str = ''
    missing: bool = False
    alone: bool | None = None


@dataclass(frozen=True)
class Copy:
    """An installed distribution: its name, its version, and the folder that it lies in."""

    name: str
    version: str
    folder: str


@dataclass(frozen=True)
class Participant:
    """A DDS participant of this machine.

    Attributes:
        domain_id: ROS domain.
        user: user id of its process.
        program: its command line; empty where it is not ours to see.
    """

    domain_id: int
    user: int
    program: str = ''


@dataclass(frozen=True)
class Profile:
    """A Fast DDS profile.

    Attributes:
        path: the file; empty where none is named.
        segment_bytes: size of the shared-memory segment; None where the profile sets none.
        loopback_only: whether its UDP is bound to this machine.
        error: why it could not be read; empty where it could.
    """

    path: str = ''
    segment_bytes: int | None = None
    loopback_only: bool = False
    error: str = ''


@dataclass(frozen=True)
class Torch:
    """What PyTorch says: the CUDA that it was built for (empty: none), and whether it runs."""

    cuda_build: str = ''
    cuda_runs: bool = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Everything that is known without looking at a graph.

    Attributes:
        python: version as (major, minor).
        executable: the interpreter.
        environment: variables of ROS 2 and DDS, by name.
        imports: by module name, in the order in which they were tried.
        copies: distributions that matter here, in the order of ``sys.path``.
        ros_prefixes: folders of AMENT_PREFIX_PATH.
        rmw_installed: middleware implementations that these prefixes hold.
        message_hashes: of installed carla_msgs, type name to hash; empty where it has none.
        message_prefixes: prefixes that hold a carla_msgs, the one in use first.
        torch: of PyTorch; None where it cannot be imported.
        nvidia_driver: whether this machine has one.
        profile: of Fast DDS.
        shm_total_bytes: size of /dev/shm; 0 where there is none.
        shm_free_bytes: what is free of it.
        disk_free_bytes: what is free where results go.
        disk_folder: where results go.
        camera_px: width and height of the camera [px].
        user: our user id.
        participants: DDS participants of this machine.
    """

    python: tuple[int, int]
    executable: str
    environment: dict[str, str] = field(default_factory=dict)
    imports: dict[str, Import] = field(default_factory=dict)
    copies: tuple[Copy, ...] = ()
    ros_prefixes: tuple[str, ...] = ()
    rmw_installed: tuple[str, ...] = ()
    message_hashes: dict[str, str] = field(default_factory=dict)
    message_prefixes: tuple[str, ...] = ()
    torch: Torch | None = None
    nvidia_driver: bool = False
    profile: Profile = field(default_factory=Profile)
    shm_total_bytes: int = 0
    shm_free_bytes: int = 0
    disk_free_bytes: int = 0
    disk_folder: str = ''
    camera_px: tuple[int, int] = (320, 240)
    user: int = 0
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """One publisher or subscription of a graph.

    Attributes:
        node: full name of its node.
        kind: message type.
        type_hash: of the message type; empty where the middleware does not tell.
        reliable: RELIABLE, else BEST_EFFORT.
        latched: TRANSIENT_LOCAL, else VOLATILE.
        deadline_ns: its deadline [ns]; 0 is none.
    """

    node: str
    kind: str
    type_hash: str = ''
    reliable: bool = True
    latched: bool = False
    deadline_ns: int = 0


@dataclass(frozen=True)
class Topic:
    """The two ends of one topic."""

    publishers: tuple[Endpoint, ...] = ()
    subscriptions: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What can be seen of a running graph.

    Attributes:
        domain_id: ROS domain looked at.
        nodes: full names; one stands there as often as there are nodes of that name.
        topics: by name.
        role_name: role name of the vehicle.
        camera_id: id of its camera.
        message_hashes: as in :class:`Machine`.
    """

    domain_id: int
    nodes: tuple[str, ...] = ()
    topics: dict[str, Topic] = field(default_factory=dict)
    role_name: str = 'ego_vehicle'
    camera_id: str = 'camera'
    message_hashes: dict[str, str] = field(default_factory=dict)
