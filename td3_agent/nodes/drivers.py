# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the driver that a node's parameters name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from td3_agent.driving.loop_check import Contract
from td3_agent.driving.observation import ObservationSpec
from td3_agent.driving.parameters import Params, param
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.policy.policy_file import SHIPPED_NAMES, UNTRAINED, policy_file, read_manifest

if TYPE_CHECKING:
    from td3_agent.driving.agent import Driver
    from td3_agent.policy.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class DriverParams(Params):
    """Which driver, and what it needs to know."""

    driver: str = param(
        'td3', 'who drives: a TD3 policy, or pure pursuit', choices=('td3', 'pure_pursuit')
    )
    policy: str = param(
        'lane',
        f"a policy that ships ({SHIPPED_NAMES}), 'untrained', or a .safetensors file",
        path=True,
    )
    policy_seed: int = param(0, 'seed of the untrained policy', low=0)
    inference: str = param(
        'torch',
        "what computes the policy: PyTorch, or ONNX Runtime on what 'td3_agent export' wrote",
        choices=('torch', 'onnx'),
    )
    torch_threads: int = param(
        1, 'threads of torch; more than one misses deadlines on busy cores', low=1, high=64
    )
    cruise_speed_mps: float = param(
        8.0, 'cruising speed of pure pursuit', unit='m/s', low=0.5, high=8.33
    )


@dataclass(frozen=True)
class LoadedDriver:
    """A driver ready to drive, and what its observations must look like.

    Attributes:
        driver: the driver.
        spec: how its observations are made.
        title: for logs and diagnostics; says so when the policy is untrained.
        needs_route: whether it drives on ``/carla/<role>/waypoints``.
        contract: what it was trained with.
    """

    driver: Driver
    spec: ObservationSpec
    title: str
    needs_route: bool = False
    contract: Contract = field(default_factory=Contract)


def make_driver(params: DriverParams) -> LoadedDriver:
    """Return the driver that the parameters name, loaded and checked.

    Raises:
        ValueError: the checkpoint was refused; the text says which file, field and value.
    """
    if params.driver == 'pure_pursuit':
        driver = PurePursuitDriver(cruise_speed_mps=params.cruise_speed_mps)
        return LoadedDriver(driver, ObservationSpec(), 'pure pursuit', needs_route=True)
    return _td3_driver(params)


def _td3_driver(params: DriverParams) -> LoadedDriver:
    """Return the TD3 policy; torch is imported only where a network drives."""
    import torch  # noqa: PLC0415

    from td3_agent.policy.checkpoint import load_checkpoint  # noqa: PLC0415
    from td3_agent.policy.policy import untrained_policy  # noqa: PLC0415

    torch.set_num_threads(params.torch_threads)
    if params.inference == 'onnx':
        return _onnx_driver(params)
    if params.policy == UNTRAINED:
        policy = untrained_policy(params.policy_seed)
        return LoadedDriver(policy, ObservationSpec(), 'TD3, UNTRAINED policy')
    policy, manifest = load_checkpoint(policy_file(params.policy), kind='driving')
    return _loaded(policy, manifest, f'TD3, {params.policy}')


def _onnx_driver(params: DriverParams) -> LoadedDriver:
    """Return the TD3 policy under ONNX Runtime.

    Raises:
        ValueError: there is no export, it is stale, or ONNX Runtime is not installed.
    """
    from td3_agent.policy.onnx_policy import load_onnx_policy  # noqa: PLC0415

    if params.policy == UNTRAINED:
        raise ValueError(f"inference must be 'torch' for policy {UNTRAINED!r}, got 'onnx'")
    policy, manifest = load_onnx_policy(policy_file(params.policy), kind='driving')
    return _loaded(policy, manifest, f'TD3, {params.policy}, ONNX Runtime')


def _loaded(policy: Driver, manifest: Manifest, title: str) -> LoadedDriver:
    spec = manifest.observation_spec
    contract = manifest.inputs.contract()
    return LoadedDriver(policy, spec, title, needs_route=spec.path, contract=contract)


def needs_route(params: DriverParams) -> bool:
    """Whether the driver that the parameters name follows a route; torch is not imported."""
    if params.driver == 'pure_pursuit':
        return True
    if params.policy == UNTRAINED:
        return False
    try:
        return read_manifest(policy_file(params.policy)).observation_spec.path
    except ValueError:
        return False  # the agent refuses such a policy, and says why
