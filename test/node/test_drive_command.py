# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""``td3_agent drive``: one command, by a transport that is named, then a stop."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

from geometry_msgs.msg import Twist
from harness.messages import ROLE
import pytest

from td3_agent.__main__ import main
from td3_agent.nodes import topics

TOPIC = topics.twist(ROLE)
DOCKER = str(Path(__file__).parents[1] / 'standins' / 'docker')
NATIVE, EXEC = 'native', 'docker exec'


@pytest.fixture
def setup_file(tmp_path):
    """A file with a blank in its name, whose sourcing can be seen."""
    path = tmp_path / 'the setup.bash'
    path.write_text(f'touch {tmp_path}/sourced\n', 'utf-8')
    return path


class TestDriveVerb:
    @pytest.mark.parametrize('transport', [NATIVE, EXEC])
    def test_says_what_it_did(self, ros, monkeypatch, setup_file, transport):
        heard = ros.listen(Twist, TOPIC)
        words = [sys.executable, '-m', 'td3_agent', 'drive', '--throttle', '0.5', '--json']
        if transport == EXEC:
            words += ['--docker-exec', 'ros2-bridge', '--docker', DOCKER]
            words += ['--setup-file', str(setup_file)]
        else:
            words += ['--duration', '0.25']
        monkeypatch.setenv('ROS_DOMAIN_ID', str(ros.domain_id))
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            ros.spin_until(lambda: process.poll() is not None, 'the end')
            report = json.loads(process.stdout.read())
        assert process.returncode == 0
        assert report['stopped']
        assert report['transport'] == {NATIVE: 'native rclpy', EXEC: 'docker exec'}[transport]
        # On a busy machine ticks of the 20 Hz are left out, never made up for.
        assert 1 <= report['commands'] <= {NATIVE: 5, EXEC: 1}[transport]
        ros.spin_until(lambda: len(heard) == report['commands'] + 1, 'all messages')
        assert heard[-1].linear.x == 0.0

    @pytest.mark.parametrize(
        ('words', 'text'),
        [
            (('--duration', '-1'), 'duration must be >= 0 [s], got -1.0'),
            (('--rate', '0'), 'rate must be in (0, 1000] [Hz], got 0.0'),
            (('--wait', '-1'), 'wait must be >= 0 [s], got -1.0'),
            (('--wait', 'nan'), 'wait must be >= 0 [s], got nan'),
            (
                ('--role-name', 'a b'),
                "role_name must be letters, digits and '_', no digit first, got 'a b'",
            ),
        ],
    )
    def test_rejects(self, capsys, words, text):
        with pytest.raises(SystemExit) as end:
            main(['drive', *words])
        assert end.value.code == 2
        assert capsys.readouterr().err == f'td3_agent drive: {text}\n'

    def test_stop_that_has_not_arrived_is_reported(self, ros, capsys, monkeypatch):
        monkeypatch.setenv('ROS_DOMAIN_ID', str(ros.domain_id))
        with pytest.raises(SystemExit) as end:
            main(['drive', '--wait', '0', '--json'])
        assert end.value.code == 1
        said = capsys.readouterr()
        assert json.loads(said.out)['stopped'] is False
        text = f'the stop may not have arrived: no subscriber on {TOPIC}'
        assert said.err == f'td3_agent drive: {text}\n'
