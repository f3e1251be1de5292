# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Worlds that tests share: painting a map takes most of a second."""

from pathlib import Path
import sys

import pytest

from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.simulator import Simulator, SimulatorConfig

sys.path.append(str(Path(__file__).parent))  # xodr_texts, for all tests of this folder


@pytest.fixture(scope='session')
def _oval():
    camera = CameraConfig(width=84, height=84)
    return Simulator(SimulatorConfig(camera=camera, parked_vehicles=0, spawn_index=0))


@pytest.fixture
def world(_oval):
    """Return the oval without parked cars, car at rest at the first spawn point."""
    _oval.parked = ()
    _oval.reset(0)
    return _oval
