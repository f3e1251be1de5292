# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What compose starts drives: its commands as plain processes, where there is no Docker."""

from pathlib import Path
import subprocess
import sys

from containers import embedded
import pytest

pytest.importorskip('carla')
pytest.importorskip('cv2')

from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.processes import free_domain_id, ros_environment

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
FRAMES = 40
PATIENCE_S = 120.0
SIM = 'td3_agent.nodes.sim_bridge_node'


def command_of(service, results):
    """A service's command as it is here; the image's own where it has none."""
    words = service.get(
        'command',
        ['python', '-m', SIM, '--ros-args', '--params-file', 'config/sim_bridge_node.yaml'],
    )
    words = [str(word).replace('/results', str(results)) for word in words]
    return [sys.executable, *words[1:]]


def test_embedded_profile_drives(tmp_path):
    services = embedded()
    environment = ros_environment(free_domain_id())
    processes = {}
    try:
        for name, service in services.items():
            command = command_of(service, tmp_path)
            if name == 'synchronizer':
                command += ['-p', f'max_frames:={FRAMES}']
            processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=environment, start_new_session=True
            )
        assert processes['synchronizer'].wait(PATIENCE_S) == 0
    finally:
        for process in processes.values():
            process.terminate()
        statuses = {name: process.wait(PATIENCE_S) for name, process in processes.items()}
    assert statuses == dict.fromkeys(services, 0)
    ledger = audit_ledger(tmp_path / 'ledger.jsonl')
    assert ledger.holds
    assert len(ledger.records) == FRAMES
