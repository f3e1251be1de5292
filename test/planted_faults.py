# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Faults, each planted alone in a healthy machine or graph, and what the doctor must find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.healthy import (
    AGENT,
    APT,
    BRIDGE,
    CONTROL,
    FRAMES_NS,
    GATE,
    HEALTHY,
    HEALTHY_GRAPH,
    JAZZY,
    LOOPBACK,
    OTHER_HASH,
    ROLE,
    SITE,
)

from td3_agent.doctor.facts import (
    CARLA_MSGS_HASHES,
    ERROR,
    NOT_IN_TIME,
    NOT_TRIED,
    NOTE,
    WARNING,
    Copy,
    Diagnosis,
    Import,
    Level,
    Machine,
    Participant,
    Torch,
    judged,
)
from td3_agent.doctor.graph_checks import (
    GRAPH_CHECKS,
    Graph,
    GraphEndpoint,
    GraphTopic,
    NodeStatus,
)
from td3_agent.doctor.machine_checks import MACHINE_CHECKS
from td3_agent.fastdds import Profile


def findings_of(patient: Machine | Graph) -> list[Diagnosis]:
    """Return what the doctor finds, faults and all that is well."""
    if isinstance(patient, Graph):
        return judged(GRAPH_CHECKS, patient)
    return judged(MACHINE_CHECKS, patient)


def finding_of(what: str, patient: Machine | Graph, check: str, level: Level) -> Diagnosis:
    """Return what the doctor finds of a planted fault.

    Raises:
        ValueError: it does not find the fault.
    """
    found = [f for f in findings_of(patient) if (f.check, f.level) == (check, level)]
    if not found:
        raise ValueError(f'{what}: not found by {check}')
    return found[0]


def _env(**changes: str) -> Machine:
    return replace(HEALTHY, environment=HEALTHY.environment | changes)


def _open(profile: Profile | None = None, **changes: str) -> Machine:
    """Return a machine whose nodes speak to the whole network, without a profile of ours."""
    environment = HEALTHY.environment | {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'} | changes
    return replace(HEALTHY, environment=environment, profile=profile or Profile())


def _without(machine: Machine, variable: str) -> Machine:
    kept = {name: value for name, value in machine.environment.items() if name != variable}
    return replace(machine, environment=kept)


def _imports(**changes: Import) -> Machine:
    renamed = {name.replace('__', '.'): value for name, value in changes.items()}
    return replace(HEALTHY, imports=HEALTHY.imports | renamed)


def _copies(*more: Copy) -> Machine:
    return replace(HEALTHY, copies=(*more, *HEALTHY.copies))


def _carla(version: str, result: Import) -> Machine:
    others = tuple(copy for copy in HEALTHY.copies if copy.name != 'carla')
    return replace(_imports(carla=result), copies=(*others, Copy('carla', version, SITE)))


def _with_pip_numpy() -> Machine:
    machine = _imports(numpy=Import('2.4.6', f'{SITE}/numpy'))
    return replace(machine, copies=(Copy('numpy', '2.4.6', SITE), *machine.copies))


def _topics(**changes: GraphTopic) -> Graph:
    names = {'clock': '/clock', 'step': '/carla/control'}
    renamed = {names.get(k, f'{ROLE}/{k.replace("__", "/")}'): v for k, v in changes.items()}
    return replace(HEALTHY_GRAPH, topics=HEALTHY_GRAPH.topics | renamed)


def _traffic(**changes: Any) -> Graph:
    return replace(HEALTHY_GRAPH, **changes)


def _two(kind: str, *publishers: str) -> GraphTopic:
    return GraphTopic(
        tuple(GraphEndpoint(node, kind) for node in publishers), (GraphEndpoint(BRIDGE, kind),)
    )


def _unpublished(name: str, kind: str, reader: str) -> Graph:
    return _topics(**{name: GraphTopic((), (GraphEndpoint(reader, kind),))})


def _ends(writer: GraphEndpoint, reader: GraphEndpoint) -> GraphTopic:
    return GraphTopic((writer,), (reader,))


IMAGE, ODOMETRY, CLOCK = (
    'sensor_msgs/msg/Image',
    'nav_msgs/msg/Odometry',
    'rosgraph_msgs/msg/Clock',
)
BOOL, PATH = 'std_msgs/msg/Bool', 'nav_msgs/msg/Path'
TWIST, STEP = 'geometry_msgs/msg/TwistStamped', 'carla_msgs/msg/CarlaControl'
TWO_SCIPY = (Copy('scipy', '1.8.0', SITE), Copy('scipy', '1.11.4', APT))
CRASH = 'the import was ended by signal 11'
NO_FILE = 'cannot open shared object file: No such file or directory'
OTHER_LENS = (
    'the policy was trained with a camera of 160x120 90 deg, got 800x600 110 deg: '
    'another field of view changes all distances; set the camera to 160x120 90 deg'
)
ABI = 'ImportError: numpy.core.multiarray failed to import'
# By the check that must find them, and how bad it must call them.
PLANTED: dict[tuple[str, Level], dict[str, Machine | Graph]] = {
    ('python', ERROR): {
        'Python 3.8': replace(HEALTHY, python=(3, 8)),
        'Python 3.11 with apt ROS 2 jazzy': replace(HEALTHY, python=(3, 11)),
    },
    ('distro', ERROR): {
        'humble and jazzy sourced in one shell': replace(
            HEALTHY, ros_prefixes=('/opt/ros/humble', JAZZY)
        ),
    },
    ('distro', WARNING): {
        'no ROS 2 sourced': _env(ROS_DISTRO=''),
        'a distribution past its end': replace(
            _env(ROS_DISTRO='iron'), ros_prefixes=('/opt/ros/iron',)
        ),
    },
    ('carla', ERROR): {
        'CARLA wheel of another Python': _carla(
            '0.9.15', Import(error="No module named 'carla.libcarla'", alone=False)
        ),
    },
    ('carla', WARNING): {
        'CARLA built for this Python by its user': _carla('0.9.15', Import('', f'{SITE}/carla')),
    },
    ('carla', NOTE): {
        'no CARLA wheel': replace(
            _imports(carla=Import(error="No module named 'carla'", missing=True)),
            copies=tuple(copy for copy in HEALTHY.copies if copy.name != 'carla'),
        ),
    },
    ('imports', ERROR): {
        'carla_msgs not built': _imports(
            carla_msgs__msg=Import(error='No module named carla_msgs', missing=True)
        ),
        'cv2 compiled against another NumPy': _imports(cv2=Import(error=ABI, alone=False)),
        'torch ends the process (signal 11)': _imports(torch=Import(error=CRASH, alone=False)),
        'HOME unset, CARLA crashes': _without(
            _imports(carla=Import(error=CRASH, alone=False)), 'HOME'
        ),
        'rclpy hangs at its import': _imports(rclpy=Import(error=NOT_IN_TIME)),
        'cv2 without libGL': _imports(
            cv2=Import(error=f'ImportError: libGL.so.1: {NO_FILE}', alone=False)
        ),
        'rclpy without the libraries of its ROS 2': _imports(
            rclpy=Import(error=f'ImportError: librcl_action.so: {NO_FILE}', alone=False)
        ),
        'rclpy of another Python': _imports(
            rclpy=Import(error="No module named 'rclpy._rclpy_pybind11'", alone=False)
        ),
        'a module that PyTorch needs is missing': _imports(
            torch=Import(error="No module named 'typing_extensions'", alone=False)
        ),
        'a broken protobuf': _imports(
            google__protobuf=Import(error='TypeError: no descriptors', alone=False)
        ),
        'carla imports alone, but not after cv2': _imports(
            carla=Import(error='ImportError: libstdc++.so.6', alone=True)
        ),
    },
    ('imports', WARNING): {
        'PyTorch takes longer than the doctor waits': _imports(torch=Import(error=NOT_IN_TIME)),
    },
    ('imports', NOTE): {
        'imports after one that hangs': _imports(
            carla=Import(error=NOT_TRIED), torch=Import(error=NOT_TRIED)
        ),
    },
    ('numpy', ERROR): {
        'pip NumPy 2 over apt ROS 2': _with_pip_numpy(),
    },
    ('copies', WARNING): {
        'pip copy hides the apt copy': _copies(*TWO_SCIPY),
        'one ROS 2 hides the rclpy of another': _copies(
            Copy('rclpy', '9.1.2', '/opt/ros/kilted/lib/python3.12/site-packages')
        ),
    },
    ('opencv', ERROR): {
        'opencv-python beside opencv-python-headless': _copies(
            Copy('opencv-python', '4.8', SITE), Copy('opencv-python-headless', '4.9', SITE)
        ),
    },
    ('opencv', WARNING): {
        'pip OpenCV hidden by the one of cv_bridge': _copies(
            Copy('opencv-python-headless', '4.9', SITE)
        ),
    },
    ('protobuf', ERROR): {
        'protobuf 3 and 4 on the path': _copies(Copy('protobuf', '3.20.3', SITE)),
    },
    ('torch', WARNING): {
        'CUDA PyTorch, driver too old': replace(HEALTHY, torch=Torch('12.8'), nvidia_driver=True),
    },
    ('torch', NOTE): {
        'CUDA PyTorch, no GPU': replace(HEALTHY, torch=Torch('12.8')),
        'CPU PyTorch, but a GPU': replace(HEALTHY, nvidia_driver=True),
    },
    ('rmw', ERROR): {
        'RMW_IMPLEMENTATION not installed': _env(RMW_IMPLEMENTATION='rmw_cyclonedds_cpp'),
        'RMW_IMPLEMENTATION, but no ROS 2 sourced': replace(
            _env(RMW_IMPLEMENTATION='rmw_cyclonedds_cpp', ROS_DISTRO=''),
            ros_prefixes=(),
            rmw_installed=(),
        ),
    },
    ('shm', ERROR): {
        '800x600 images, no Fast DDS profile': replace(
            HEALTHY, camera_px=(800, 600), profile=Profile()
        ),
        'shared memory of 64 MB (Docker default)': replace(
            HEALTHY, shm_total_bytes=64 << 20, shm_free_bytes=64 << 20
        ),
        'a segment of 512 MB, shared memory of 512 MB': replace(
            HEALTHY, profile=replace(LOOPBACK, segment_bytes=512 << 20), shm_total_bytes=512 << 20
        ),
    },
    ('shm', WARNING): {
        'FASTDDS_BUILTIN_TRANSPORTS without shared memory': _open(
            FASTDDS_BUILTIN_TRANSPORTS='UDPv4'
        ),
        'profile without shared memory': _open(Profile('/home/driver/udp.xml', builtin=False)),
        'shared memory full': replace(HEALTHY, shm_free_bytes=1 << 20),
    },
    ('discovery', ERROR): {
        'discovery off': _env(ROS_AUTOMATIC_DISCOVERY_RANGE='OFF'),
        'misspelt discovery range': _env(ROS_AUTOMATIC_DISCOVERY_RANGE='LAN'),
        'profile that does not exist': replace(
            HEALTHY, profile=Profile('gone.xml', error='No such file')
        ),
        'profile in the variable of Fast DDS 3, jazzy': _open(
            FASTDDS_DEFAULT_PROFILES_FILE=LOOPBACK.path
        ),
        'discovery server that does not run': _env(ROS_DISCOVERY_SERVER='127.0.0.1:11811'),
        'no transports': _open(FASTDDS_BUILTIN_TRANSPORTS='NONE'),
    },
    ('discovery', WARNING): {
        'old and new variable at once': _env(ROS_LOCALHOST_ONLY='1'),
        'profile without a default participant': _open(
            Profile('/home/driver/named.xml', is_default=False)
        ),
        'profile in the variable of Fast DDS 2, kilted': _env(
            ROS_DISTRO='kilted', FASTRTPS_DEFAULT_PROFILES_FILE=LOOPBACK.path
        ),
        'discovery server on another machine': _open(ROS_DISCOVERY_SERVER='192.168.1.5:11811'),
        'static peers, but a loopback profile': _env(ROS_STATIC_PEERS='192.168.1.5'),
        'static peers, but the old variable': _without(
            _env(ROS_STATIC_PEERS='192.168.1.5', ROS_LOCALHOST_ONLY='1'),
            'ROS_AUTOMATIC_DISCOVERY_RANGE',
        ),
        'misspelt transports': _env(FASTDDS_BUILTIN_TRANSPORTS='UDP'),
        'loopback profile, but the bridge elsewhere': _env(ROS_AUTOMATIC_DISCOVERY_RANGE='SUBNET'),
    },
    ('discovery', NOTE): {
        'static peers': _open(ROS_STATIC_PEERS='192.168.1.5;bridge.local'),
        'transports that a profile overrides': _env(FASTDDS_BUILTIN_TRANSPORTS='UDPv4'),
        'transports that all must share': _open(
            FASTDDS_BUILTIN_TRANSPORTS='LARGE_DATA?max_msg_size=1MB'
        ),
    },
    ('domain', ERROR): {
        'ROS_DOMAIN_ID=233': _env(ROS_DOMAIN_ID='233'),
        'another user in our domain': replace(HEALTHY, participants=(Participant(7, 1001),)),
    },
    ('domain', WARNING): {
        'ROS_DOMAIN_ID=150': _env(ROS_DOMAIN_ID='150'),
        'ROS_DOMAIN_ID=010': _env(ROS_DOMAIN_ID='010'),
        'root in our domain': replace(HEALTHY, participants=(Participant(7, 0),)),
    },
    ('domain', NOTE): {
        'forgotten nodes in our domain': replace(
            HEALTHY, participants=(Participant(7, 1000, 'td3_agent_node'),)
        ),
    },
    ('messages', ERROR): {
        'carla_msgs with another CarlaStatus': replace(
            HEALTHY,
            message_hashes=HEALTHY.message_hashes | {'carla_msgs/msg/CarlaStatus': OTHER_HASH},
        ),
    },
    ('messages', WARNING): {
        'two carla_msgs sourced': replace(
            HEALTHY, message_prefixes=('/ws/install/carla_msgs', '/carla_ws/install')
        ),
    },
    ('disk', WARNING): {
        'disk nearly full': replace(HEALTHY, disk_free_bytes=500_000_000),
    },
    ('disk', ERROR): {
        'disk full': replace(HEALTHY, disk_free_bytes=1_000_000),
        'a folder for results that is not writable': replace(
            HEALTHY, disk_free_bytes=0, disk_error='/results is not writable'
        ),
    },
    ('nodes', ERROR): {
        'no nodes': Graph(domain_id=7),
        'wrong domain': Graph(
            domain_id=7, participants=(Participant(10, 1000, 'td3_agent_node'), Participant(10, 0))
        ),
        'a process of this domain that is not discovered': Graph(
            domain_id=7, participants=(Participant(7, 1000, 'td3_agent_node'),)
        ),
        'two agents of one name': replace(HEALTHY_GRAPH, nodes=(AGENT, BRIDGE, AGENT)),
    },
    ('clock', ERROR): {
        'a bag plays its clock beside the bridge': _topics(clock=_two(CLOCK, BRIDGE, '/player')),
    },
    ('clock', WARNING): {
        'no simulated time': _topics(clock=GraphTopic()),
    },
    ('publishers', ERROR): {
        'carla_manual_control beside the gate': _topics(
            vehicle_control_cmd=_two(CONTROL, GATE, '/carla_manual_control')
        ),
    },
    ('endpoints', ERROR): {
        'bridge without odometry': _topics(
            odometry=GraphTopic((), (GraphEndpoint(AGENT, ODOMETRY),))
        ),
        "role name not in the bridge's list": _topics(
            vehicle_control_cmd=GraphTopic((GraphEndpoint(GATE, CONTROL),))
        ),
        'another role name given': replace(HEALTHY_GRAPH, role_name='hero'),
        'another camera id given': replace(HEALTHY_GRAPH, camera_id='front'),
    },
    ('endpoints', WARNING): {
        'no agent': _unpublished('twist_stamped', TWIST, GATE),
        'no gate': _unpublished('vehicle_control_cmd', CONTROL, BRIDGE),
        'no synchronizer': _unpublished('step', STEP, BRIDGE),
    },
    ('qos', ERROR): {
        'best-effort camera, reliable reader': _topics(
            camera__image=_ends(
                GraphEndpoint(BRIDGE, IMAGE, reliable=False), GraphEndpoint(AGENT, IMAGE)
            )
        ),
        'best-effort odometry, reliable reader': _topics(
            odometry=_ends(
                GraphEndpoint(BRIDGE, ODOMETRY, reliable=False), GraphEndpoint(AGENT, ODOMETRY)
            )
        ),
        'ros2 topic pub of the manual override (volatile)': _topics(
            vehicle_control_manual_override=_ends(
                GraphEndpoint('/_ros2cli_1234', BOOL), GraphEndpoint(BRIDGE, BOOL, latched=True)
            )
        ),
        'volatile route, transient local reader': _topics(
            waypoints=_ends(
                GraphEndpoint('/planner', PATH), GraphEndpoint(AGENT, PATH, latched=True)
            )
        ),
    },
    ('types', ERROR): {
        'one topic, two types': _topics(
            speedometer=_ends(
                GraphEndpoint(BRIDGE, 'carla_msgs/msg/CarlaSpeedometer'),
                GraphEndpoint(AGENT, 'std_msgs/msg/Float32'),
            )
        ),
        'bridge and agent built from different carla_msgs': _topics(
            vehicle_control_cmd=_ends(
                GraphEndpoint(GATE, CONTROL, CARLA_MSGS_HASHES[CONTROL]),
                GraphEndpoint(BRIDGE, CONTROL, OTHER_HASH),
            )
        ),
    },
    ('frames', WARNING): {
        'a camera with a sensor_tick of 0.1 s': _traffic(images_ns=FRAMES_NS[::2]),
        'a simulator that waits': _traffic(images_ns=(), motions_ns=()),
    },
    ('frames', ERROR): {
        'a camera that never stamps': _traffic(images_ns=(0,) * 30),
        'images 1 ns late': _traffic(images_ns=[ns + 1 for ns in FRAMES_NS]),
        'a camera of another name': _traffic(images_ns=()),
    },
    ('reports', WARNING): {
        'a lens other than the trained one': _traffic(
            statuses=(NodeStatus(AGENT[1:], 1, OTHER_LENS),)
        ),
    },
}


def table() -> str:
    """Return the planted faults with what the doctor finds, as Markdown.

    Raises:
        ValueError: a fault is not found.
    """
    lines = ['| planted | finding |', '|---|---|']
    rows = [
        (what, finding_of(what, patient, *key))
        for key, patients in PLANTED.items()
        for what, patient in patients.items()
    ]
    for what, finding in rows:
        fix = f' **Fix:** {finding.fix}' if finding.fix else ''
        text = f'{finding.level.name.lower()} *{finding.check}*: {finding.text}.{fix}'
        lines.append(f'| {what} | {text.replace("|", chr(92) + "|")} |')
    healthy = [*findings_of(HEALTHY), *findings_of(HEALTHY_GRAPH)]
    raised = sum(finding.level > Level.OK for finding in healthy)
    lines.append(
        f'\n{len(rows)} faults planted, all found; {raised} findings where none is planted.'
    )
    return '\n'.join(lines)
