# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder: subscribes to every topic of the loop, raw, and passes the bytes to a writer.

It subscribes with the QoS of the publishers, so it receives latched messages and matches
best-effort publishers. It looks for new topics while it runs.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial
import time
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from td3_agent.bags.record import InstalledTypes, RecordedTopic, message_class
from td3_agent.bags.storage import BagError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rclpy.duration import Duration
    from rclpy.subscription import Subscription
    from rclpy.topic_endpoint_info import TopicEndpointInfo
    from rosbags.typesys.store import Typestore

    from td3_agent.bags.record import BagWriter

LOOP_TOPICS = ('/clock', '/carla/*', '/tf', '/tf_static', '/diagnostics')
# First names below /carla that are not role names.
NOT_ROLES = ('traffic_lights', 'markers')
LOOK_PERIOD_S = 0.1
DEPTH = 200
COMPLAINT_PERIOD_S = 5.0


def is_wanted(topic: str, patterns: Sequence[str], role_name: str = '') -> bool:
    """Whether to record a topic.

    Args:
        topic: its name.
        patterns: shell patterns; one must match.
        role_name: leave out the topics of other vehicles; empty: record all.
    """
    if not any(fnmatchcase(topic, pattern) for pattern in patterns):
        return False
    parts = topic.split('/')
    of_a_role = len(parts) > 3 and parts[1] == 'carla' and parts[2] not in NOT_ROLES
    return not role_name or not of_a_role or parts[2] == role_name


class RecorderNode(Node):
    """Records until it is stopped, or the writer ends by itself."""

    def __init__(
        self,
        make_writer: Callable[[Callable[[], None]], BagWriter],
        patterns: Sequence[str] = LOOP_TOPICS,
        role_name: str = '',
        **kwargs: Any,  # noqa: ANN401  what Node takes
    ) -> None:
        """Start to look for topics.

        Args:
            make_writer: takes the function that the writer calls when it ends by itself.
            patterns: shell patterns of topic names.
            role_name: leave out the topics of other vehicles; empty: record all.
            kwargs: of ``rclpy.node.Node``.
        """
        super().__init__('recorder', start_parameter_services=False, **kwargs)
        self._patterns = tuple(patterns)
        self._role_name = role_name
        self._types = InstalledTypes()
        self._listening: dict[str, tuple[QoSProfile, Subscription]] = {}
        self._announced: set[str] = set()
        self._rejected: set[str] = set()
        self.finished = Future()
        self.exit_status = 0
        self._writer = make_writer(self._end)
        self._timer = self.create_timer(
            LOOK_PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._look()

    def _end(self) -> None:
        """End the program, because the writer has ended."""
        if not self.finished.done():
            self.finished.set_result(None)

    def close(self) -> None:
        """Close the bag and log its contents."""
        self._timer.cancel()
        writer = self._writer
        writer.close()
        if writer.failure:
            self.exit_status = 1
            self.get_logger().error(writer.failure)
        total, lost = writer.written.total(), writer.dropped.total()
        text = f'{total} messages of {len(writer.written)} topics in {writer.path}, {lost} dropped'
        self.get_logger().info(text)

    def _look(self) -> None:
        """Subscribe to new topics, and again where the publishers' QoS has changed."""
        for topic, kinds in self.get_topic_names_and_types():
            if topic in self._rejected or not is_wanted(topic, self._patterns, self._role_name):
                continue
            try:
                self._listen(topic, kinds)
            except BagError as error:
                self._rejected.add(topic)
                self.get_logger().warning(f'{topic} is not recorded: {error}')
        if lost := self._writer.dropped.total():
            self.get_logger().warning(
                f'the disk is too slow: {lost} messages dropped so far',
                throttle_duration_sec=COMPLAINT_PERIOD_S,
                skip_first=False,
            )

    def _listen(self, topic: str, kinds: Sequence[str]) -> None:
        """Subscribe to a topic, again if the QoS of its publishers has changed.

        Topics without a publisher are included, so that its first message is not missed.

        Raises:
            BagError: its type is not installed, or it has several types.
        """
        profile = fitting_profile(self.get_publishers_info_by_topic(topic))
        known = self._listening.get(topic)
        if known is not None and known[0] == profile:
            return
        if len(kinds) != 1:
            raise BagError(f'it must have one type, got {", ".join(kinds)}')
        types = self._types.knowing(kinds[0])
        if known is not None:
            self.destroy_subscription(known[1])
        callback = partial(self._on_message, topic, kinds[0], types)
        subscription = self.create_subscription(
            message_class(kinds[0]), topic, callback, profile, raw=True
        )
        self._listening[topic] = (profile, subscription)

    def _on_message(self, topic: str, msgtype: str, types: Typestore, data: bytes) -> None:
        if topic not in self._announced:
            self._announced.add(topic)
            publishers = self.get_publishers_info_by_topic(topic)
            offered = tuple(offered_qos(publisher.qos_profile) for publisher in publishers)
            self._writer.add_topic(RecordedTopic(topic, msgtype, types, offered))
        self._writer.put(topic, time.time_ns(), data)


def fitting_profile(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """Return the best profile that all publishers offer; reliable without publishers."""
    offers = [publisher.qos_profile for publisher in publishers]
    reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offers)
    latched = bool(offers) and all(
        qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offers
    )
    return QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def offered_qos(profile: QoSProfile) -> Qos:
    """Return a publisher's QoS in the form of a bag; the middleware does not know its depth."""
    known = profile.history in {HistoryPolicy.KEEP_LAST, HistoryPolicy.KEEP_ALL}
    return Qos(
        QosHistory(int(profile.history)) if known else QosHistory.UNKNOWN,
        profile.depth,
        QosReliability(int(profile.reliability)),
        QosDurability(int(profile.durability)),
        _qos_time(profile.deadline),
        _qos_time(profile.lifespan),
        QosLiveliness(int(profile.liveliness)),
        _qos_time(profile.liveliness_lease_duration),
        avoid_ros_namespace_conventions=profile.avoid_ros_namespace_conventions,
    )


def _qos_time(duration: Duration) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))
