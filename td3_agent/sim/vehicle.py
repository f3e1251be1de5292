# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The car: single-track dynamics, and the way from pedals and steer to their inputs.

Lateral dynamics are commonroad-vehicle-models' (Althoff, Koschi, Manzinger, *CommonRoad:
Composable benchmarks for motion planning on roads*, 2017; BMW 320i, vehicle 2): the dynamic
single-track model at speed, the kinematic one below ``KINEMATIC_BELOW_MPS``. Departures:

* The package changes to the kinematic model below 0.1 m/s. The dynamic one has time constants
  of about v / 215 s there, which no fixed step of some milliseconds can follow, and it is
  unstable backwards; so the change is made at 2 m/s, and reversing is always kinematic.
* Its tyres are linear and never let go. Here the wheel angle that counts is capped where
  lateral acceleration reaches grip: beyond that the car pushes wide instead of turning harder.
* Braking hard moves load off its rear tyres until, at speed, it spins for ever. Yaw rate and
  slip are bounded as stability control does.
* Its steering rate limit (0.4 rad/s at the wheels) is a comfort bound; CARLA cars steer faster.

Longitudinal: engine force that falls with speed, drag, rolling and engine drag, brakes up to
grip, and a true stand-still that brakes hold. The reference point is the centre of mass; it is
the actor's origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vehiclemodels.parameters_vehicle2 import parameters_vehicle2
from vehiclemodels.utils.vehicle_dynamics_ks_cog import vehicle_dynamics_ks_cog
from vehiclemodels.vehicle_dynamics_st import vehicle_dynamics_st

from td3_agent.driving.command import clamp
from td3_agent.driving.vehicle import VehicleGeometry

if TYPE_CHECKING:
    from collections.abc import Callable

    from vehiclemodels.vehicle_parameters import VehicleParameters

    from td3_agent.driving.command import VehicleControl

GRAVITY_MPS2 = 9.81
LONGEST_SUBSTEP_S = 0.01
KINEMATIC_BELOW_MPS = 2.0
MAX_STEER_RATE_RADPS = 1.5  # at the wheels
ENGINE_FORCE_N = 5000.0  # full throttle at low speed
ENGINE_POWER_W = 100_000.0  # full throttle at high speed
ENGINE_DRAG_PER_S = 0.08  # deceleration per speed with the throttle closed
DRAG_COEFFICIENT = 0.30
FRONTAL_AREA_M2 = 2.1
AIR_DENSITY_KGPM3 = 1.2
ROLLING_RESISTANCE = 0.012
GRIP_FRACTION = 0.9  # usable part of the tyres' friction, along and across
SLIP_BOUND_PER_MPS2 = 0.02  # Rajamani, 2nd ed., ch. 8: slip <= atan(0.02 mu g)
HAND_BRAKE_FRACTION = 0.4  # of full braking: rear wheels only
HALF_TRACK_M = 0.69
CM_PER_M = 100.0


# A model of the package: (state, (steering rate, acceleration), parameters) -> derivatives.
Model: TypeAlias = 'Callable[[list[float], tuple[float, float], VehicleParameters], list[float]]'


class Motion(NamedTuple):
    """State of the car in the map frame, reference point at its centre of mass.

    Attributes:
        x_m: position [m].
        y_m: position [m].
        steer_angle_rad: angle of the front wheels [rad], left positive.
        speed_mps: speed of the centre of mass, negative backwards [m/s].
        yaw_rad: heading [rad], left positive, not wrapped.
        yaw_rate_radps: turning rate [rad/s].
        slip_rad: angle from heading to velocity at the centre of mass [rad].
    """

    x_m: float = 0.0
    y_m: float = 0.0
    steer_angle_rad: float = 0.0
    speed_mps: float = 0.0
    yaw_rad: float = 0.0
    yaw_rate_radps: float = 0.0
    slip_rad: float = 0.0

    @property
    def forward_mps(self) -> float:
        """Speed along the car's own axis, as a speedometer shows it [m/s]."""
        return self.speed_mps * math.cos(self.slip_rad)

    @property
    def velocity_mps(self) -> tuple[float, float]:
        """Velocity in map axes (x, y) [m/s]."""
        course = self.yaw_rad + self.slip_rad
        return self.speed_mps * math.cos(course), self.speed_mps * math.sin(course)


@dataclass(frozen=True, kw_only=True)
class WheelInfo:
    """One wheel as carla_msgs/CarlaEgoVehicleInfoWheel describes it.

    Attributes:
        tire_friction: friction coefficient [1].
        damping_rate: rolling damping [kg m^2/s].
        max_steer_angle: [rad] on the wire, 0 where the wheel does not steer.
        radius: [cm], as CARLA has it.
        max_brake_torque: [N m].
        max_handbrake_torque: [N m].
        position: (x, y, z) in the vehicle frame [m], y left.
    """

    tire_friction: float
    damping_rate: float
    max_steer_angle: float
    radius: float
    max_brake_torque: float
    max_handbrake_torque: float
    position: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class VehicleInfo:
    """The car as carla_msgs/CarlaEgoVehicleInfo describes it; id and role are the bridge's.

    Attributes:
        type: CARLA blueprint-like name.
        wheels: front left, front right, rear left, rear right.
        max_rpm: of the engine [1/min].
        moi: moment of inertia of the engine [kg m^2].
        damping_rate_full_throttle: engine damping [kg m^2/s].
        damping_rate_zero_throttle_clutch_engaged: engine damping [kg m^2/s].
        damping_rate_zero_throttle_clutch_disengaged: engine damping [kg m^2/s].
        use_gear_autobox: gears change by themselves.
        gear_switch_time: [s].
        clutch_strength: [kg m^2/s].
        mass: [kg].
        drag_coefficient: [1].
        center_of_mass: (x, y, z) [m], CARLA axes.
        length_m: of the body [m].
        width_m: of the body [m].
        height_m: of the body [m].
        geometry: wheelbase and largest wheel angle.
    """

    type: str = 'vehicle.bmw.320i'
    wheels: tuple[WheelInfo, ...]
    max_rpm: float = 6500.0
    moi: float = 1.0
    damping_rate_full_throttle: float = 0.15
    damping_rate_zero_throttle_clutch_engaged: float = 2.0
    damping_rate_zero_throttle_clutch_disengaged: float = 0.35
    use_gear_autobox: bool = True
    gear_switch_time: float = 0.0
    clutch_strength: float = 10.0
    mass: float
    drag_coefficient: float = DRAG_COEFFICIENT
    center_of_mass: tuple[float, float, float]
    length_m: float
    width_m: float
    height_m: float = 1.42
    geometry: VehicleGeometry


@lru_cache(maxsize=1)
def _parameters() -> VehicleParameters:
    """Return the BMW 320i of the package, with a faster steering rack."""
    parameters = parameters_vehicle2()
    steering = replace(
        parameters.steering, v_min=-MAX_STEER_RATE_RADPS, v_max=MAX_STEER_RATE_RADPS
    )
    return replace(parameters, steering=steering)


def _max_grip_mps2() -> float:
    """Largest acceleration the tyres give, along or across [m/s^2]."""
    return GRIP_FRACTION * float(_parameters().tire.p_dy1) * GRAVITY_MPS2


@lru_cache(maxsize=1)
def vehicle_info() -> VehicleInfo:
    """Describe the one car there is."""
    p = _parameters()
    brake_torque = p.m * _max_grip_mps2() * p.R_w / 4.0

    def wheel(x: float, y: float, *, front: bool) -> WheelInfo:
        return WheelInfo(
            tire_friction=float(p.tire.p_dy1),
            damping_rate=0.25,
            max_steer_angle=float(p.steering.max) if front else 0.0,
            radius=p.R_w * CM_PER_M,
            max_brake_torque=brake_torque,
            max_handbrake_torque=0.0 if front else 2.0 * HAND_BRAKE_FRACTION * brake_torque,
            position=(x, y, p.R_w),
        )

    return VehicleInfo(
        wheels=(
            wheel(p.a, HALF_TRACK_M, front=True),
            wheel(p.a, -HALF_TRACK_M, front=True),
            wheel(-p.b, HALF_TRACK_M, front=False),
            wheel(-p.b, -HALF_TRACK_M, front=False),
        ),
        mass=float(p.m),
        center_of_mass=(0.0, 0.0, float(p.h_cg)),
        length_m=float(p.l),
        width_m=float(p.w),
        geometry=VehicleGeometry(
            wheelbase_m=float(p.a + p.b), max_steer_angle_rad=float(p.steering.max)
        ),
    )


class Vehicle:
    """Integrates the car's motion; its only state is :attr:`motion`."""

    def __init__(self, motion: Motion | None = None) -> None:
        """Start from a motion, by default at rest at the map's origin."""
        self.motion = motion or Motion()
        self._p = _parameters()
        self._wheelbase_m = float(self._p.a + self._p.b)
        self._max_steer_rad = float(self._p.steering.max)
        self._grip_mps2 = _max_grip_mps2()
        friction = float(self._p.tire.p_dy1)
        self._most_slip_rad = math.atan(SLIP_BOUND_PER_MPS2 * friction * GRAVITY_MPS2)
        drag = 0.5 * AIR_DENSITY_KGPM3 * DRAG_COEFFICIENT * FRONTAL_AREA_M2
        self._mass_kg = float(self._p.m)
        self._drag_per_m = drag / self._mass_kg

    def step(self, control: VehicleControl, step_s: float) -> Motion:
        """Move the car for ``step_s`` [s] under a constant command.

        Args:
            control: values beyond their range are clamped, as CARLA does.
            step_s: length of the step [s], > 0; cut into equal sub-steps of at most 10 ms.
        """
        count = max(1, math.ceil(step_s / LONGEST_SUBSTEP_S - 1e-9))
        part_s = step_s / count
        throttle, brake, forward = _pedals(control)
        # CARLA steer is right positive, wheel angles are left positive.
        target_rad = -clamp(control.steer, -1.0, 1.0) * self._max_steer_rad
        motion = self.motion
        for _ in range(count):
            angle = _towards(motion.steer_angle_rad, target_rad, MAX_STEER_RATE_RADPS * part_s)
            push = self._push_mps2(throttle, motion.speed_mps) * forward
            drag = self._drag_mps2(brake, motion.speed_mps, throttle)
            acceleration = _net_acceleration(motion.speed_mps, push, drag, part_s)
            motion = self._moved(motion, angle, acceleration, part_s)
        self.motion = motion
        return motion

    def _push_mps2(self, throttle: float, speed_mps: float) -> float:
        """Acceleration from the engine: constant force, then constant power [m/s^2]."""
        force = min(ENGINE_FORCE_N, ENGINE_POWER_W / max(abs(speed_mps), 1.0))
        return throttle * force / self._mass_kg

    def _drag_mps2(self, brake: float, speed_mps: float, throttle: float) -> float:
        """Deceleration from brakes, air, tyres and a closed throttle, >= 0 [m/s^2]."""
        speed = abs(speed_mps)
        return (
            min(brake, 1.0) * self._grip_mps2
            + self._drag_per_m * speed * speed
            + ROLLING_RESISTANCE * GRAVITY_MPS2
            + (1.0 - throttle) * ENGINE_DRAG_PER_S * speed
        )

    def _moved(
        self, motion: Motion, angle_rad: float, acceleration: float, step_s: float
    ) -> Motion:
        """Integrate one sub-step with constant wheel angle and acceleration (RK4)."""
        p = self._p
        held_rad = self._held_by_grip(angle_rad, motion.speed_mps)
        inputs = (0.0, acceleration)
        start = [motion.x_m, motion.y_m, held_rad, motion.speed_mps, motion.yaw_rad]
        if motion.speed_mps < KINEMATIC_BELOW_MPS:
            x, y, _, speed, yaw = _runge_kutta(vehicle_dynamics_ks_cog, start, inputs, p, step_s)
            slip = math.atan(math.tan(held_rad) * p.b / self._wheelbase_m)
            yaw_rate = speed * math.cos(slip) * math.tan(held_rad) / self._wheelbase_m
        else:
            start += [motion.yaw_rate_radps, motion.slip_rad]
            x, y, _, speed, yaw, yaw_rate, slip = _runge_kutta(
                vehicle_dynamics_st, start, inputs, p, step_s
            )
            yaw_rate, slip = self._stabilised(held_rad, speed, yaw_rate, slip)
        if acceleration * speed < 0.0 and abs(speed) < 1e-9:
            speed = 0.0
            yaw_rate = 0.0
        return Motion(x, y, angle_rad, speed, yaw, yaw_rate, slip)

    def _stabilised(
        self, angle_rad: float, speed_mps: float, yaw_rate: float, slip: float
    ) -> tuple[float, float]:
        """Bound yaw rate and slip as stability control does (Rajamani, 2nd ed., ch. 8).

        Slip may exceed the bound by what the wheel angle alone makes of it at low speed.
        """
        most_rate = self._grip_mps2 / max(abs(speed_mps), 1.0)
        geometric = abs(math.atan(math.tan(angle_rad) * self._p.b / self._wheelbase_m))
        most_slip = geometric + self._most_slip_rad
        return clamp(yaw_rate, -most_rate, most_rate), clamp(slip, -most_slip, most_slip)

    def _held_by_grip(self, angle_rad: float, speed_mps: float) -> float:
        """Cap a wheel angle where ``v^2 tan(angle) / L`` reaches grip [rad]."""
        squared = speed_mps * speed_mps
        limit = math.atan(self._wheelbase_m * self._grip_mps2 / max(squared, 0.01))
        return clamp(angle_rad, -limit, limit)


def _pedals(control: VehicleControl) -> tuple[float, float, float]:
    """Return throttle, brake, and the direction the engine pushes in (+1, 0, -1)."""
    throttle = clamp(control.throttle, 0.0, 1.0)
    brake = clamp(control.brake, 0.0, 1.0)
    if control.hand_brake:
        brake += HAND_BRAKE_FRACTION
    if control.manual_gear_shift:
        return throttle, brake, float((control.gear > 0) - (control.gear < 0))
    return throttle, brake, -1.0 if control.reverse else 1.0


def _towards(value: float, target: float, most: float) -> float:
    return value + clamp(target - value, -most, most)


def _net_acceleration(speed_mps: float, push: float, drag: float, step_s: float) -> float:
    """Return the acceleration of a sub-step: drag opposes motion and never reverses it.

    Args:
        speed_mps: before the step.
        push: from the engine, signed [m/s^2].
        drag: everything that only opposes motion, >= 0 [m/s^2].
        step_s: length of the sub-step [s].
    """
    direction = math.copysign(1.0, speed_mps) if speed_mps != 0.0 else math.copysign(1.0, push)
    if speed_mps == 0.0:
        return direction * max(abs(push) - drag, 0.0)
    wanted = push - direction * drag
    stops = (speed_mps + wanted * step_s) * direction <= 0.0
    if stops and abs(push) <= drag:
        return -speed_mps / step_s  # exactly to a stand, and held there
    return wanted


def _runge_kutta(
    model: Model,
    start: list[float],
    inputs: tuple[float, float],
    p: VehicleParameters,
    step_s: float,
) -> list[float]:
    """Integrate ``model`` over one step by the classical fourth-order Runge-Kutta method."""
    half = 0.5 * step_s
    k1 = model(start, inputs, p)
    k2 = model([s + half * k for s, k in zip(start, k1, strict=True)], inputs, p)
    k3 = model([s + half * k for s, k in zip(start, k2, strict=True)], inputs, p)
    k4 = model([s + step_s * k for s, k in zip(start, k3, strict=True)], inputs, p)
    sixth = step_s / 6.0
    return [
        s + sixth * (a + 2.0 * (b + c) + d)
        for s, a, b, c, d in zip(start, k1, k2, k3, k4, strict=True)
    ]
