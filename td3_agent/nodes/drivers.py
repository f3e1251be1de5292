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
from td3_agent.policy.network_driver import PolicyError, comfortable
from td3_agent.policy.onnx_policy import OnnxPolicy
from td3_agent.policy.policy_file import (
    SHIPPED_NAMES,
    UNTRAINED,
    CheckpointError,
    policy_file,
    read_manifest,
    read_policy,
)

if TYPE_CHECKING:
    from pathlib import Path

    from td3_agent.driving.agent import Driver
    from td3_agent.policy.manifest import Manifest
    from td3_agent.policy.policy_file import Weights


@dataclass(frozen=True, kw_only=True)
class DriverParams(Params):
    """Which driver, and what it needs to know."""

    driver: str = param('td3', 'TD3 policy or pure pursuit', choices=('td3', 'pure_pursuit'))
    policy: str = param(
        'lane',
        f"a policy that ships ({SHIPPED_NAMES}), 'untrained', or a .safetensors file",
        path=True,
    )
    policy_seed: int = param(0, 'seed of the untrained policy', low=0)
    inference: str = param(
        'auto',
        'what computes the policy: ONNX Runtime or PyTorch; auto: ONNX Runtime where it is '
        'installed and its actions are right',
        choices=('auto', 'onnx', 'torch'),
    )
    torch_threads: int = param(
        1, 'threads of PyTorch; more than one misses deadlines on busy cores', low=1, high=64
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
        needs_route: whether it follows ``/carla/<role>/waypoints``.
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
        ValueError: the checkpoint is invalid; the text names file, field and value.
    """
    if params.driver == 'pure_pursuit':
        driver = PurePursuitDriver(cruise_speed_mps=params.cruise_speed_mps)
        return LoadedDriver(driver, ObservationSpec(), 'pure pursuit', needs_route=True)
    return _td3_driver(params)


def _td3_driver(params: DriverParams) -> LoadedDriver:
    """Return the TD3 policy; torch is imported only where it computes.

    Raises:
        ValueError: the checkpoint is invalid, or its runtime is not installed.
    """
    if params.policy == UNTRAINED and params.inference == 'onnx':
        raise ValueError(f"inference must be 'torch' for policy {UNTRAINED!r}, got 'onnx'")
    try:
        if params.policy == UNTRAINED:
            return LoadedDriver(
                _untrained_policy(params), ObservationSpec(), 'TD3, UNTRAINED policy'
            )
        return _trained_driver(params)
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed: "pip install onnx onnxruntime" for inference by '
            'ONNX Runtime, "pip install torch" for PyTorch'
        ) from error


def _trained_driver(params: DriverParams) -> LoadedDriver:
    """Return the policy of a file; raises ImportError if its runtime is not installed."""
    path, why_not = policy_file(params.policy), ''
    weights, manifest = read_policy(path, kind='driving')
    spec = manifest.observation_spec
    about = {'needs_route': spec.path, 'contract': manifest.inputs.contract()}
    if params.inference != 'torch':
        try:
            under_onnx = OnnxPolicy(manifest.actor, weights, trained=manifest.trained)
            title = f'TD3, {params.policy}, ONNX Runtime'
            return LoadedDriver(comfortable(under_onnx, manifest), spec, title, **about)
        except ImportError:
            if params.inference == 'onnx':
                raise
        except (ValueError, PolicyError) as error:
            if params.inference == 'onnx':
                raise CheckpointError(path, [str(error)]) from error
            why_not = f' ({error})'
    title = f'TD3, {params.policy}, PyTorch{why_not}'
    driver = comfortable(_torch_policy(params, path, weights, manifest), manifest)
    return LoadedDriver(driver, spec, title, **about)


def _untrained_policy(params: DriverParams) -> Driver:
    from td3_agent.policy.policy import untrained_policy  # noqa: PLC0415

    _limit_torch(params)
    return untrained_policy(params.policy_seed)


def _torch_policy(
    params: DriverParams, path: Path, weights: Weights, manifest: Manifest
) -> Driver:
    from td3_agent.policy.checkpoint import build_policy  # noqa: PLC0415

    _limit_torch(params)
    return build_policy(path, weights, manifest)


def _limit_torch(params: DriverParams) -> None:
    import torch  # noqa: PLC0415

    torch.set_num_threads(params.torch_threads)


def needs_route(params: DriverParams) -> bool:
    """Whether the driver that the parameters name follows a route; torch is not imported."""
    if params.driver == 'pure_pursuit':
        return True
    if params.policy == UNTRAINED:
        return False
    try:
        return read_manifest(policy_file(params.policy)).observation_spec.path
    except ValueError:
        return False  # the agent itself rejects such a policy, with the reason
