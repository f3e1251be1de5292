# SPDX-License-Identifier: Apache-2.0
"""What gatherers tell the checks of a machine and of a graph. Plain values, no library."""

from __future__ import annotations

from dataclasses import dataclass, field

# Why an import, or what stood behind it, has no answer.
NOT_IN_TIME, NOT_TRIED = 'not imported in time', 'not tried: one before it took all the time'
APT_FOLDERS = ('/usr/lib/python3/dist-packages', '/opt/ros')
DEFAULT_RMW = 'rmw_fastrtps_cpp'
FAST_DDS_RMWS = (DEFAULT_RMW, 'rmw_fastrtps_dynamic_cpp')
# Beyond: domains whose ports Linux hands out to other programs; no domains at all.
LAST_SAFE_DOMAIN = 101
CLI_NODES = '_ros2cli'  # how the names of the ros2 command's nodes begin


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

    @property
    def failed(self) -> bool:
        """Whether it was tried, to its end, and did not come in."""
        return bool(self.error) and self.error not in {NOT_IN_TIME, NOT_TRIED}


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
    """A Fast DDS profile, as far as a participant takes it that asks for none by name.

    Attributes:
        path: the file; empty where none is named.
        segment_bytes: size of the shared-memory segment; None where the profile sets none.
        loopback_only: whether its network is bound to this machine.
        error: why it could not be read; empty where it could.
        is_default: whether such a participant takes anything from it.
        shares_memory: whether it names a transport of shared memory.
        builtin: whether the transports that Fast DDS has by itself are in use.
    """

    path: str = ''
    segment_bytes: int | None = None
    loopback_only: bool = False
    error: str = ''
    is_default: bool = True
    shares_memory: bool = False
    builtin: bool = True


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
        environment: variables of ROS 2 and DDS, and HOME, by name.
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
        disk_error: why nothing can be written there; empty where it can.
        checkout: folder of this package's sources; empty where it is installed without them.
        config: folder of the profiles that ship.
        udp_ports: on which somebody listens in this network namespace.
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
    disk_error: str = ''
    checkout: str = ''
    config: str = 'config'
    udp_ports: tuple[int, ...] = ()
    camera_px: tuple[int, int] = (320, 240)
    user: int = 0
    participants: tuple[Participant, ...] = ()

    def shipped(self, name: str) -> str:
        """Return the path of a file of ours, as ``config/fastdds_camera.xml``."""
        return f'{self.config}/{name.rpartition("/")[2]}'

    @property
    def distro(self) -> str:
        """The distribution that is sourced; empty where none is."""
        return self.environment.get('ROS_DISTRO', '')

    @property
    def is_apt(self) -> bool:
        """Whether rclpy is that of the distribution, not a wheel."""
        rclpy = self.imports.get('rclpy')
        if rclpy is not None and rclpy.path:
            return rclpy.path.startswith(APT_FOLDERS)
        return any(prefix.startswith('/opt/ros/') for prefix in self.ros_prefixes)

    @property
    def uses_fast_dds(self) -> bool:
        """Whether the middleware is Fast DDS, which is so where none is asked for."""
        return (self.environment.get('RMW_IMPLEMENTATION') or DEFAULT_RMW) in FAST_DDS_RMWS

    @property
    def lacks_rmw(self) -> bool:
        """Whether a middleware is asked for that is not installed: it ends rclpy's import."""
        wanted = self.environment.get('RMW_IMPLEMENTATION', '')
        return bool(wanted) and wanted not in self.rmw_installed


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


@dataclass(frozen=True)
class Said:
    """What a node says of itself, or of a part of itself, on /diagnostics.

    Attributes:
        name: of the status.
        level: of diagnostic_msgs/DiagnosticStatus: 0 is well, 1 a warning, 2 and 3 errors.
        message: its sentence.
    """

    name: str
    level: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What was heard of a graph.

    Attributes:
        seconds: for how long it was listened to [s]; 0 is not at all.
        images_ns: stamps of the images [ns].
        motions_ns: stamps of the odometry [ns].
        said: the newest of each node and part.
    """

    seconds: float = 0.0
    images_ns: tuple[int, ...] = ()
    motions_ns: tuple[int, ...] = ()
    said: tuple[Said, ...] = ()


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
        participants: as in :class:`Machine`.
        traffic: what was heard.
    """

    domain_id: int
    nodes: tuple[str, ...] = ()
    topics: dict[str, Topic] = field(default_factory=dict)
    role_name: str = 'ego_vehicle'
    camera_id: str = 'camera'
    message_hashes: dict[str, str] = field(default_factory=dict)
    participants: tuple[Participant, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)

    def topic(self, name: str) -> Topic:
        """Return the two ends of a topic; none where nobody knows it."""
        return self.topics.get(name, Topic())
