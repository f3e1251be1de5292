# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes whose drive was disturbed, or that another policy should drive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.loop_check import CameraView, Contract
from td3_agent.driving.observation import ObservationSpec
from td3_agent.evaluation.direct_episodes import contract_findings
from td3_agent.evaluation.episode_result import EpisodeResult, EpisodeView
from td3_agent.evaluation.evaluate import found_by, holds
from td3_agent.evaluation.result_tables import finding_lines
from td3_agent.nodes.drivers import LoadedDriver
from td3_agent.sim.camera import CameraConfig

BRIDGES = Finding('two bridges in ROS domain 7', is_error=True)
CAMERA = Finding('another camera', is_error=False)
GOOD = {'violations': 0, 'frames_not_ok': 0}
NOTHING = EpisodeView(
    driven=np.zeros((0, 2)), speed_mps=np.zeros(0), route=np.zeros((0, 2)), road=[], events=[]
)


def result(number, *findings, **figures):
    return EpisodeResult(
        figures={'episode': number, **GOOD, **figures}, view=NOTHING, findings=findings
    )


def test_a_disturbed_episode_is_driven_again_with_its_reason():
    pytest.importorskip('rclpy')
    from td3_agent.evaluation.ros_episodes import fault, lockstep_held

    assert lockstep_held(result(0))
    assert lockstep_held(result(0, CAMERA))
    assert not lockstep_held(result(0, frames_not_ok=1))
    disturbed = result(0, BRIDGES)
    assert not lockstep_held(disturbed)
    assert fault(disturbed) == '0 frames not ok, 0 violations; two bridges in ROS domain 7'


def test_findings_are_listed_once_with_their_episodes_and_errors_fail():
    found = found_by([result(0, CAMERA), result(1), result(2, CAMERA, BRIDGES)])
    assert [(one['text'], one['episodes']) for one in found] == [
        ('another camera', [0, 2]),
        ('two bridges in ROS domain 7', [2]),
    ]
    assert finding_lines(found[:1]) == 'warning: another camera (episodes 0, 2)'
    assert not holds({**GOOD, 'findings': found})
    assert holds({**GOOD, 'findings': found[:1]})


class Config:
    """What a world of a world is asked for."""

    camera = CameraConfig(width=800, height=600, fov_deg=110.0)
    fixed_delta_seconds = 0.1


class Simulator:
    config = Config()


def test_the_direct_path_compares_camera_and_step_with_the_contract():
    trained = Contract(rate_hz=20.0, camera=CameraView(width_px=160, height_px=120, fov_deg=90.0))
    loaded = LoadedDriver(driver=None, spec=ObservationSpec(), title='', contract=trained)
    camera, rate = contract_findings(loaded, Simulator())
    assert 'got 800x600 110 deg' in camera.text
    assert 'images come at 10 Hz, the policy was trained at 20 Hz' in rate.text
    assert contract_findings(replace(loaded, contract=Contract()), Simulator()) == []
