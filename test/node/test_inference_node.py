# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent node with ``inference: onnx``: it drives on an export, and refuses a stale one."""

import shutil

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

torch = pytest.importorskip('torch')

from harness.ros import lifecycle_state  # noqa: E402

from td3_agent.driving.parameters import ParameterError  # noqa: E402
from td3_agent.nodes.drivers import DriverParams, make_driver  # noqa: E402
from td3_agent.nodes.td3_agent_node import Td3AgentNode  # noqa: E402
from td3_agent.policy.policy_file import policy_file  # noqa: E402


@pytest.fixture(autouse=True)
def threads():
    """Hand back the threads that making a driver takes away."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def exported(tmp_path):
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is optional, and not installed')
    from td3_agent.policy.onnx_policy import export_policy

    policy = tmp_path / 'lane.safetensors'
    shutil.copyfile(policy_file('lane'), policy)
    export_policy(policy)
    return policy


def test_export_drives(ros, exported):
    node = ros.make(Td3AgentNode, policy=str(exported), inference='onnx')
    ros.spin_until(lambda: lifecycle_state(node) == 'active', 'active')
    assert node.loaded.title.endswith('ONNX Runtime')
    torch_driver = make_driver(DriverParams(policy=str(exported)))
    assert torch_driver.spec == node.loaded.spec
    assert torch_driver.needs_route == node.loaded.needs_route


def test_stale_export_leaves_the_node_inactive_with_the_reason(ros, exported, diagnosed):
    shutil.copyfile(policy_file('route'), exported)
    node = ros.make(Td3AgentNode, policy=str(exported), inference='onnx')
    assert lifecycle_state(node) == 'unconfigured'
    ros.spin_until(lambda: diagnosed('td3_agent') is not None, 'diagnostics')
    status = diagnosed('td3_agent')
    assert status.level == DiagnosticStatus.ERROR
    assert 'stale, exported from weights' in status.message


def test_untrained_policy_has_no_export():
    with pytest.raises(ValueError, match="inference must be 'torch' for policy 'untrained'"):
        make_driver(DriverParams(policy='untrained', inference='onnx'))


def test_other_runtimes_are_refused_by_name():
    with pytest.raises(ParameterError, match='inference must be one of torch, onnx, got'):
        DriverParams(inference='tensorrt')
