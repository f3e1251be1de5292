# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The parameter ``inference``: what computes the policy, and what is done without it."""

import subprocess
import sys

import numpy as np
import pytest

from td3_agent.driving.observation import Observation
from td3_agent.driving.parameters import ParameterError
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.policy import onnx_policy
from td3_agent.policy.policy_file import policy_file, read_policy

WITHOUT_TORCH = """
import sys
from td3_agent.nodes.drivers import DriverParams, make_driver
assert make_driver(DriverParams()).title == 'TD3, lane, ONNX Runtime'
import td3_agent.nodes.td3_agent_node
assert 'torch' not in sys.modules
"""


@pytest.fixture
def threads():
    """Hand back the threads that making a driver takes away."""
    torch = pytest.importorskip('torch')
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def needs_onnx():
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is optional, and not installed')


@pytest.mark.usefixtures('needs_onnx')
def test_onnx_runtime_computes_where_it_is_installed_and_torch_is_not_imported():
    subprocess.run([sys.executable, '-c', WITHOUT_TORCH], check=True)


@pytest.mark.usefixtures('needs_onnx', 'threads')
def test_both_runtimes_drive_alike():
    drivers = [make_driver(DriverParams(inference=name)) for name in ('onnx', 'torch')]
    onnx, torch = drivers
    assert torch.title == 'TD3, lane, PyTorch'
    assert (onnx.spec, onnx.needs_route, onnx.contract) == (
        torch.spec,
        torch.needs_route,
        torch.contract,
    )
    _, manifest = read_policy(policy_file('lane'), kind='driving')
    for state, image in onnx_policy.sample_observations(manifest.actor, 5):
        seen = Observation(image=image, state=state, vehicle=None)
        for loaded in drivers:
            loaded.driver.reset()
        actions = [loaded.driver.act(seen) for loaded in drivers]
        np.testing.assert_allclose(*actions, atol=onnx_policy.TOLERANCE)


@pytest.mark.usefixtures('threads')
@pytest.mark.parametrize('name', ['onnx', 'onnxruntime'])
def test_torch_computes_where_onnx_runtime_is_not_installed(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    assert make_driver(DriverParams()).title == 'TD3, lane, PyTorch'
    with pytest.raises(ValueError, match=f'{name} is not installed: "pip install onnx onnxrunt'):
        make_driver(DriverParams(inference='onnx'))


@pytest.mark.usefixtures('needs_onnx', 'threads')
def test_torch_computes_where_onnx_runtime_answers_differently(monkeypatch):
    monkeypatch.setattr(onnx_policy, 'TOLERANCE', 0.0)
    fault = 'action of ONNX Runtime for observation 1 is'
    title = make_driver(DriverParams()).title
    assert title.startswith(f'TD3, lane, PyTorch ({fault}')
    with pytest.raises(ValueError, match=fault):
        make_driver(DriverParams(inference='onnx'))


@pytest.mark.usefixtures('needs_onnx')
def test_without_either_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(ValueError, match=r'torch is not installed: .*"pip install torch"'):
        make_driver(DriverParams())


def test_untrained_policy_is_torch_alone():
    with pytest.raises(ValueError, match="inference must be 'torch' for policy 'untrained'"):
        make_driver(DriverParams(policy='untrained', inference='onnx'))


def test_other_runtimes_are_rejected_by_name():
    with pytest.raises(ParameterError, match='inference must be one of auto, onnx, torch, got'):
        DriverParams(inference='tensorrt')
