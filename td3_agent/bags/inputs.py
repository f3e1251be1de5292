# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The messages of a bag that matter to the agent, typed, in the order of their stamps.

Two topics have no common order in a bag, so messages wait until their stamp is half a second old.
Stamps that run back by more start a new drive, after all waiting messages. The definitions in a
bag are never used, because ``rosbags`` makes Python source of them.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
import heapq
from itertools import count
from operator import itemgetter
from os.path import commonpath
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from td3_agent.bags.storage import BagError
from td3_agent.driving.geometry import JUMP_BACK_NS
from td3_agent.driving.observation import MAX_IMAGE_SIDE_PX, ImageView
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import image_view, stamp_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rosbags.typesys.store import Typestore

    from td3_agent.bags.bag import Contents
    from td3_agent.bags.storage import RawMessage

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
ODOMETRY, PATH = 'nav_msgs/msg/Odometry', 'nav_msgs/msg/Path'
INFO = 'carla_msgs/msg/CarlaEgoVehicleInfo'
REPORT, STAMPED_TWIST = 'diagnostic_msgs/msg/DiagnosticArray', 'geometry_msgs/msg/TwistStamped'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
WAITING_MOST = 256
MOST_NAMED = 12
HELD_MOST_BYTES = 64 * 1024 * 1024
PNG_MAGIC = b'\x89PNG\r\n\x1a\n'
JPEG_MAGIC = b'\xff\xd8'
# The messages of carla_msgs 1.3.0 that replay reads; without ROS 2 no other copy is installed.
CARLA_TYPES = {
    'carla_msgs/msg/CarlaEgoVehicleInfoWheel': """
        float32 tire_friction
        float32 damping_rate
        float32 max_steer_angle
        float32 radius
        float32 max_brake_torque
        float32 max_handbrake_torque
        geometry_msgs/Vector3 position
    """,
    'carla_msgs/msg/CarlaEgoVehicleInfo': """
        uint32 id
        string type
        string rolename
        carla_msgs/CarlaEgoVehicleInfoWheel[] wheels
        float32 max_rpm
        float32 moi
        float32 damping_rate_full_throttle
        float32 damping_rate_zero_throttle_clutch_engaged
        float32 damping_rate_zero_throttle_clutch_disengaged
        bool use_gear_autobox
        float32 gear_switch_time
        float32 clutch_strength
        float32 mass
        float32 drag_coefficient
        geometry_msgs/Vector3 center_of_mass
    """,
}


@cache
def known_types() -> Typestore:
    """Return the types that replay reads, without ROS 2."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in CARLA_TYPES.items():
        store.register(get_types_from_msg(text, name))
    return store


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The topics of one vehicle in a bag; only images and odometry are required."""

    role_name: str
    image: str  # raw or compressed
    odometry: str
    info: str
    path: str
    report: str  # the agent's frame reports
    twist: str  # the agent's commands, stamped

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.kinds)

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Allowed types of each topic."""
        return {
            self.image: (IMAGE, COMPRESSED),
            self.odometry: (ODOMETRY,),
            self.info: (INFO,),
            self.path: (PATH,),
            self.report: (REPORT,),
            self.twist: (STAMPED_TWIST,),
            self.lens: (CAMERA_INFO,),
        }

    @property
    def lens(self) -> str:
        """The topic with the camera's field of view."""
        return topics.beside(self.image.removesuffix('/compressed'), 'camera_info')


def find_inputs(
    contents: Contents, role_name: str = '', image_topic: str = '', odometry_topic: str = ''
) -> Inputs:
    """Return the topics to replay.

    Args:
        contents: of the bag.
        role_name: of the vehicle; empty: the only one.
        image_topic: empty: the only camera of the vehicle.
        odometry_topic: empty: ``/carla/<role_name>/odometry``.

    Raises:
        BagError: no vehicle, camera or topic fits, or several do; the text names them.
    """
    role_name = role_name or _only_role(contents, odometry_topic)
    odometry = odometry_topic or topics.odometry(role_name)
    if odometry not in contents.of_type(ODOMETRY):
        there = f'{_there(contents, ODOMETRY)}{_options(contents)}'
        raise BagError(f'the bag must have {odometry} ({ODOMETRY}), {there}')
    prefix = topics.of(role_name, '')
    cameras = [name for name in contents.of_type(IMAGE, COMPRESSED) if name.startswith(prefix)]
    if image_topic:
        cameras = [name for name in contents.of_type(IMAGE, COMPRESSED) if name == image_topic]
    raw = [name for name in cameras if contents.topics[name].msgtype == IMAGE]
    if len(raw) == 1 and all(name.startswith(raw[0]) for name in cameras):
        cameras = raw  # the others are copies of it
    if len(cameras) != 1:
        wanted = image_topic or f'one camera of {role_name!r} (or name it with --image-topic)'
        there = f'{_there(contents, IMAGE, COMPRESSED)}{"" if cameras else _options(contents)}'
        raise BagError(f'the bag must have {wanted}, {there}')
    return Inputs(
        role_name=role_name,
        image=cameras[0],
        odometry=odometry,
        info=topics.vehicle_info(role_name),
        path=topics.waypoints(role_name),
        report=topics.agent_report(role_name),
        twist=topics.twist_stamped(role_name),
    )


def _only_role(contents: Contents, odometry_topic: str) -> str:
    if odometry_topic.count('/') >= 3 and odometry_topic.startswith('/carla/'):
        return odometry_topic.split('/')[2]
    found = [
        parts[2]
        for name in contents.of_type(ODOMETRY)
        if len(parts := name.split('/')) == 4 and parts[1::2] == ['carla', 'odometry']
    ]
    if not found:
        there = f'{_there(contents, ODOMETRY)}{_options(contents)}'
        raise BagError(f'the bag must have {topics.odometry("ROLE")} ({ODOMETRY}), {there}')
    if len(found) > 1:
        there = ', '.join(found)
        raise BagError(f'the bag must have one vehicle (or name it with --role-name), has {there}')
    return found[0]


def _there(contents: Contents, *msgtypes: str) -> str:
    if names := contents.of_type(*msgtypes):
        return f'it has {", ".join(names)}'
    every = sorted(contents.topics)
    more = ', ...' if len(every) > MOST_NAMED else ''
    return f'it has no such topic, but {", ".join(every[:MOST_NAMED]) or "none at all"}{more}'


def _options(contents: Contents) -> str:
    """Return options that select the topics of a vehicle with other names, if there are any."""
    motions, cameras = contents.of_type(ODOMETRY), contents.of_type(IMAGE, COMPRESSED)
    pairs = [(len(commonpath((m, c))), m, c) for m in motions for c in cameras]
    if not pairs:
        return ''
    _, odometry, camera = max(pairs, key=itemgetter(0))
    role = ['', *odometry.split('/')][-2] or 'ego_vehicle'
    names = f'--role-name {role} --odometry-topic {odometry} --image-topic {camera}'
    return f'; to replay these: {names}'


def begin_ns(contents: Contents, start_offset_s: float) -> int:
    """Return the start of the replayed part [ns since 1970]; BagError if not in the bag."""
    if not start_offset_s >= 0.0:  # written so that NaN fails too
        raise BagError(f'start offset must be >= 0 [s], got {start_offset_s:g}')
    length_s = (contents.last_ns - contents.first_ns) / 1e9
    if start_offset_s > length_s:
        raise BagError(
            f'start offset {start_offset_s:g} s is beyond the end of the bag ({length_s:.1f} s)'
        )
    return contents.first_ns + round(start_offset_s * 1e9)


@dataclass(frozen=True)
class Input:
    """One message for the agent."""

    topic: str
    received_ns: int  # since 1970
    content: Any  # an ImageView for an image
    stamp_ns: int | None = None  # simulated time of its frame, if it belongs to one


def read_input(message: RawMessage, inputs: Inputs) -> Input:
    """Return a message as the agent takes it.

    Raises:
        ValueError: its bytes do not fit its type, its type does not fit its topic, or its image
            is invalid.
    """
    kind, wanted = message.topic.msgtype, inputs.kinds[message.topic.name]
    if kind not in wanted:
        raise ValueError(f'must be {" or ".join(wanted)}, got {kind[:80]!r}')
    content = deserialized(message)
    stamp = None
    if kind in {IMAGE, COMPRESSED, ODOMETRY, REPORT, STAMPED_TWIST}:
        stamp = stamp_ns(content.header.stamp)
    if kind == IMAGE:
        content = image_view(content)
    elif kind == COMPRESSED:
        content = decoded_image(content.format, content.data)
    return Input(message.topic.name, message.received_ns, content, stamp)


def deserialized(message: RawMessage) -> Any:  # noqa: ANN401  a message of any type
    """Return a typed message.

    Raises:
        ValueError: the type is unknown, or the bytes do not fit it.
    """
    name, store = message.topic.msgtype, known_types()
    if name not in store.fielddefs:
        raise BagError(f'{message.topic.name}: message type {name!r} is not known')
    try:
        return store.deserialize_cdr(message.data, name)
    except Exception as error:  # of any kind: the bytes are not trusted
        raise ValueError(f'not a {name}: {error}') from error


def decoded_image(form: str, data: np.ndarray[Any, Any]) -> ImageView:
    """Return the pixels of a JPEG or PNG as ``bgr8``.

    The size is read from the file's header before decoding.

    Raises:
        ValueError: it has another format, is too large, or damaged.
    """
    try:
        import cv2  # noqa: PLC0415  of the extra [sim]; raw images need none
    except ImportError as error:
        raise BagError("compressed images need OpenCV: pip install 'td3_agent[sim]'") from error
    file = data.tobytes()
    size = _png_size(file) if file.startswith(PNG_MAGIC) else _jpeg_size(file)
    if size is None:
        raise ValueError(f'format {form[:40]!r}: must be JPEG or PNG')
    width, height = size
    if not (1 <= width <= MAX_IMAGE_SIDE_PX and 1 <= height <= MAX_IMAGE_SIDE_PX):
        raise ValueError(
            f'compressed image must have sides in [1, {MAX_IMAGE_SIDE_PX}] [px], '
            f'got {width} x {height}'
        )
    pixels = None
    with suppress(cv2.error):
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError(f'format {form[:40]!r}: cannot be decoded')
    height, width, channels = pixels.shape
    return ImageView(
        data=np.ascontiguousarray(pixels).data.cast('B'),
        height=height,
        width=width,
        encoding='bgr8',
        step=width * channels,
    )


def _png_size(file: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, or None if its header is incomplete."""
    if len(file) < 24 or file[12:16] != b'IHDR':
        return None
    width, height = struct.unpack('>II', file[16:24])
    return width, height


def _jpeg_size(file: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG, or None if there is no frame header."""
    at = 2
    while file.startswith(JPEG_MAGIC) and at + 9 <= len(file) and file[at] == 0xFF:
        marker = file[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack('>HH', file[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(file[at + 2 : at + 4], 'big')
    return None


class StampOrder:
    """Sorts messages by their stamps as they arrive, with little memory."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Input]] = []
        self._newest_ns: int | None = None
        self._number = count()

    def add(self, message: Input) -> Iterator[Input]:
        """Take a message; yield those that are due."""
        stamp = message.stamp_ns
        if stamp is None:  # sorts after the frames so far
            if self._newest_ns is None:
                yield message
                return
            stamp = self._newest_ns
        if self._newest_ns is not None and self._newest_ns - stamp > JUMP_BACK_NS:
            yield from self.rest()
        self._newest_ns = max(stamp, self._newest_ns or 0)
        heapq.heappush(self._waiting, (stamp, next(self._number), message))
        while self._waiting and (
            self._newest_ns - self._waiting[0][0] > JUMP_BACK_NS
            or len(self._waiting) > WAITING_MOST
        ):
            yield heapq.heappop(self._waiting)[2]

    def rest(self) -> Iterator[Input]:
        """Yield all waiting messages, at the end of a drive."""
        while self._waiting:
            yield heapq.heappop(self._waiting)[2]
        self._newest_ns = None


def latched_first(messages: Iterable[RawMessage], inputs: Inputs) -> Iterator[RawMessage]:
    """Yield the first route and vehicle_info before everything else.

    They are older than the bag: a recorder receives them when it discovers their publisher, which
    may be after the first frames.
    """
    wanted = {inputs.info, inputs.path}
    held: deque[RawMessage] = deque()
    held_bytes = 0
    stream = iter(messages)
    for message in stream:
        if message.topic.name in wanted:
            wanted.discard(message.topic.name)
            yield message
        else:
            held.append(message)
            held_bytes += len(message.data)
        if not wanted or len(held) >= WAITING_MOST or held_bytes > HELD_MOST_BYTES:
            break
    yield from held
    yield from stream
