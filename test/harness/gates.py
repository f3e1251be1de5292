# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A gate and the inputs of a frame."""

import math

from harness import images

from td3_agent.driving.command import (
    TwistCommand,
    TwistConvention,
)
from td3_agent.driving.gate import (
    Gate,
)
from td3_agent.driving.vehicle import VehicleGeometry
from td3_agent.driving.velocity_control import (
    TwistConverter,
    VelocityController,
)

STEP_NS = 50_000_000
START_NS = 10 * 10**9
DEADLINE_NS = 500_000_000
GEOMETRY = VehicleGeometry(wheelbase_m=2.7, max_steer_angle_rad=1.22)
DRIVE = TwistCommand(5.0, 0.2)
NOT_FINITE = TwistCommand(math.nan, 0.0)


def stamp(frame):
    return START_NS + frame * STEP_NS


def moving(stamp_ns, speed_mps=2.0):
    return images.moving(speed_mps, stamp_ns=stamp_ns)


def make_gate(geometry=GEOMETRY, convention=TwistConvention.VELOCITY):
    return Gate(TwistConverter(convention), DEADLINE_NS, geometry)


def expected(twist, state, params=None):
    return VelocityController(params).control(twist, state, GEOMETRY).as_float32()


def answer_frame(gate, frame, twist=DRIVE, now_ns=0):
    """Send clock, odometry and command of a frame; return the response to the last."""
    assert gate.on_frame(stamp(frame), now_ns) is None
    assert gate.on_state(moving(stamp(frame)), now_ns) is None
    return gate.on_command(stamp(frame), twist)
