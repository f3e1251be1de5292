# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the embedded bridge, and the world they describe."""

from __future__ import annotations

from dataclasses import dataclass, fields

from td3_agent.driving.parameters import (
    ParameterError,
    Params,
    param,
    param_of,
    reject_bad_roles,
)
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.simulator import Simulator, SimulatorConfig
from td3_agent.sim.traffic import TrafficConfig

# Relative deviation within which a camera period counts as a whole number of steps.
RATE_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class SimBridgeParams(Params):
    """Parameters of sim_bridge_node."""

    role_names: tuple[str, ...] = param(
        ('ego_vehicle',), 'role names of the vehicles; each is driven'
    )
    map: str = param(
        'winding',
        'oval, winding, country, town, highway, arterial, or the path of an OpenDRIVE file',
        path=True,
    )
    map_seed: int = param(0, 'seed of a built-in map', low=0)
    seed: int = param(0, 'seed of spawn point, route, parked vehicles, light and traffic', low=0)
    spawn_index: int = param(-1, 'spawn point on the map; -1 draws one from the seed', low=-1)
    route_length_m: float = param(
        1000.0, 'length at which an open route ends', unit='m', low=20.0, high=1e5
    )
    parked_vehicles: int = param(6, 'vehicles parked beside the road', low=0, high=200)
    traffic_vehicles: int = param_of(TrafficConfig, 'vehicles')
    traffic_leader: str = param_of(TrafficConfig, 'leader')
    traffic_even_kinds: bool = param_of(TrafficConfig, 'even_kinds')
    traffic_desired_speed_mps: float = param_of(TrafficConfig, 'desired_speed_mps')
    traffic_time_headway_s: float = param_of(TrafficConfig, 'time_headway_s')
    traffic_minimum_gap_m: float = param_of(TrafficConfig, 'minimum_gap_m')
    traffic_maximum_acceleration_mps2: float = param_of(TrafficConfig, 'maximum_acceleration_mps2')
    traffic_comfortable_deceleration_mps2: float = param_of(
        TrafficConfig, 'comfortable_deceleration_mps2'
    )
    actor_list: bool = param(
        False, 'publish /carla/actor_list, as sensor.pseudo.actor_list does in the objects file'
    )
    fixed_delta_seconds: float = param(0.05, 'simulated step', unit='s', low=0.001, high=0.1)
    synchronous_mode_wait_for_vehicle_control_command: bool = param(
        True, 'wait up to command_wait_s for the command of each frame'
    )
    command_wait_s: float = param(
        1.0, 'longest wait for a command; upstream knows only 1.0', unit='s', low=0.1, high=600.0
    )
    start_paused: bool = param(False, 'wait for the first STEP_ONCE or PLAY; upstream plays')
    play_real_time_factor: float = param(
        1.0, 'pace while playing; 0 is as fast as possible, as upstream', low=0.0, high=100.0
    )
    spawned: bool = param(
        True,
        'vehicles are there from the start; false: as upstream, ~/spawn brings them at the next '
        'tick, ~/destroy takes them away',
    )
    first_frame: int = param(
        0, 'frame number and time of the world, in steps, when this bridge starts', low=0
    )
    waypoints: bool = param(True, 'publish the route; false: as upstream, that is for route_node')
    camera_id: str = param('camera', 'id of the camera')
    camera_width: int = param(160, 'image columns', unit='px', low=8, high=4096)
    camera_height: int = param(120, 'image rows', unit='px', low=8, high=4096)
    camera_fov_deg: float = param(
        90.0, 'horizontal field of view', unit='deg', low=10.0, high=150.0
    )
    camera_x: float = param(2.0, 'mounting, forward', unit='m', low=-10.0, high=10.0)
    camera_y: float = param(0.0, 'mounting, left', unit='m', low=-10.0, high=10.0)
    camera_z: float = param(2.0, 'mounting, up', unit='m', low=0.1, high=50.0)
    camera_roll: float = param(0.0, 'mounting, roll', unit='deg', low=-180.0, high=180.0)
    camera_pitch: float = param(8.0, 'mounting, nose down', unit='deg', low=-90.0, high=90.0)
    camera_yaw: float = param(0.0, 'mounting, left', unit='deg', low=-180.0, high=180.0)
    camera_rate_hz: float = param(
        20.0, 'images per simulated second; must divide the step rate', unit='Hz', low=0.01
    )

    def __post_init__(self) -> None:
        """Reject bad values, roles named twice, and a camera rate that does not divide.

        Raises:
            ParameterError: naming each field and value.
        """
        super().__post_init__()
        reject_bad_roles(self.role_names)
        steps = 1.0 / (self.camera_rate_hz * self.fixed_delta_seconds)
        if steps < 1.0 - RATE_TOLERANCE or abs(steps - round(steps)) > RATE_TOLERANCE * steps:
            raise ParameterError(
                f'camera_rate_hz must divide the step rate of '
                f'{1.0 / self.fixed_delta_seconds:g} [Hz], got {self.camera_rate_hz:g}'
            )

    @property
    def camera_period_frames(self) -> int:
        """Frames from one image to the next."""
        return round(1.0 / (self.camera_rate_hz * self.fixed_delta_seconds))


def simulator_config(params: SimBridgeParams) -> SimulatorConfig:
    """Return what the world of these parameters is made of."""
    camera = CameraConfig(
        **{spec.name: getattr(params, f'camera_{spec.name}') for spec in fields(CameraConfig)}
    )
    traffic = TrafficConfig(
        **{spec.name: getattr(params, f'traffic_{spec.name}') for spec in fields(TrafficConfig)}
    )
    alike = {spec.name for spec in fields(SimulatorConfig)} & {
        spec.name for spec in fields(params)
    }
    return SimulatorConfig(
        vehicles=len(params.role_names),
        traffic=traffic,
        camera=camera,
        **{name: getattr(params, name) for name in alike},
    )


def make_simulator(params: SimBridgeParams) -> Simulator:
    """Return the world that the parameters describe, painted and ready.

    Raises:
        ValueError: the map cannot be read; the text names file and fault.
    """
    simulator = Simulator(simulator_config(params))
    simulator.frame += params.first_frame
    simulator.camera.render(0.0, 0.0, 0.0)  # paint now: the first frame must not wait for it
    return simulator
