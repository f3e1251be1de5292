# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A test run depends on nothing outside of it, and works beside the plugins of ROS 2."""

from collections import Counter
import logging
import os
from pathlib import Path
import tempfile

ROOT = Path(__file__).parents[2]


def test_base_names_are_unique():
    """Plugins of ROS 2 import test files by their bare names."""
    names = Counter(path.name for path in (ROOT / 'test').rglob('*.py'))
    del names['conftest.py']
    assert [name for name, count in names.items() if count > 1] == []


def test_plugins_that_import_test_files_by_name_are_off(pytestconfig):
    plugins = pytestconfig.pluginmanager
    for name in ('launch_testing', 'launch_ros', 'launch_pytest'):
        assert plugins.is_blocked(name)


def test_log_is_captured_beside_launch(caplog):
    logging.getLogger(f'{__name__}.made_late').warning('heard')
    assert caplog.messages == ['heard']


def test_files_of_the_user_are_out_of_reach():
    folder = Path(tempfile.gettempdir())
    assert Path.home() == folder / 'home'
    assert os.environ['TMPDIR'] == str(folder)
    assert folder.name.startswith('td3_')
