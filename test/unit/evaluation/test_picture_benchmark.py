# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded frames become the views that a camera there would have had; drivers steer on them."""

import csv
import json
import math

import cv2
import numpy as np
import pytest

from td3_agent.__main__ import main
from td3_agent.evaluation.picture_benchmark import (
    COLUMNS,
    VIEWS,
    FrameView,
    figures,
    labels_radps,
    read_frames,
    run_pictures,
)
from td3_agent.nodes.drivers import DriverParams
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.simulator import Simulator, SimulatorConfig

POLICY = CameraConfig()
RECORDED = CameraConfig(width=320, height=190, x=1.5, z=1.8, pitch=0.0)
AT_M = 60.0
LANE_Y_M = -1.75
STREET = """<OpenDRIVE><header revMajor="1" revMinor="7"/><road name="" id="1" length="300"
junction="-1"><link/><planView><geometry s="0" x="0" y="0" hdg="0" length="300"><line/></geometry>
</planView><lanes><laneSection s="0"><left>{left}</left><center><lane id="0" type="none">{broken}
</lane></center><right>{right}</right></laneSection></lanes></road></OpenDRIVE>"""
LINE = '<roadMark sOffset="0" type="{}" color="white" width="0.15"/>'
LANE = (
    '<lane id="{}" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>'
    + LINE.format('solid')
    + '</lane>'
)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp('map') / 'street.xodr'
    lanes = {'left': LANE.format(1), 'right': LANE.format(-1)}
    path.write_text(STREET.format(broken=LINE.format('broken'), **lanes))
    return Simulator(SimulatorConfig(map=str(path), parked_vehicles=0, random_light=False))


def rendered(world, camera, left_m, yaw_rad):
    """Return what a camera on the car sees from a place beside the lane's middle, BGR."""
    world.mount_camera(camera)
    world.ego.set_pose(AT_M, LANE_Y_M + left_m, yaw_rad)
    return np.ascontiguousarray(world.render()[..., :3])


def difference(one, other):
    """Mean difference below the horizon, where the frame has shown the ground."""
    return np.abs(one[50:90].astype(int) - other[50:90]).mean()


@pytest.mark.parametrize(
    'taken', [(0.0, 0.0), (0.4, 0.0), (-0.3, 3.0)], ids=['middle', 'left', 'right and turned']
)
@pytest.mark.parametrize(('left_m', 'yaw_deg'), VIEWS)
def test_views_are_what_the_policys_camera_would_have_seen(world, taken, left_m, yaw_deg):
    """The frame was taken by a car at ``taken``; the list has the camera's place in the lane."""
    taken_left_m, taken_yaw_rad = taken[0], math.radians(taken[1])
    frame = rendered(world, RECORDED, taken_left_m, taken_yaw_rad)
    camera = CameraConfig(
        width=320,
        height=190,
        x=RECORDED.x * math.cos(taken_yaw_rad),
        y=taken_left_m + RECORDED.x * math.sin(taken_yaw_rad),
        z=RECORDED.z,
        pitch=0.0,
        yaw=taken[1],
    )
    yaw_rad = math.radians(yaw_deg)
    view = FrameView(camera, POLICY, left_m, yaw_rad).of(frame)
    wanted = rendered(world, POLICY, left_m, yaw_rad)
    elsewhere = rendered(world, POLICY, left_m + 0.5, yaw_rad)
    assert view.shape == (POLICY.height, POLICY.width, 3)
    assert difference(view, wanted) < 6.0
    assert difference(view, wanted) < 0.5 * difference(view, elsewhere)


@pytest.mark.parametrize(
    ('bad', 'words'),
    [
        ({'pitch': -60.0}, 'must see the ground ahead'),
        ({'pitch': 80.0}, 'must see the ground ahead'),
        ({'yaw': 50.0}, r'must see the way ahead: yaw is 50 \[deg\]'),
    ],
)
def test_camera_that_looks_elsewhere_is_refused(bad, words):
    camera = CameraConfig(**{'width': 320, 'height': 190, 'pitch': 0.0} | bad)
    with pytest.raises(ValueError, match=words):
        FrameView(camera, POLICY, 0.0, 0.0)


def test_labels_are_pure_pursuit_in_closed_form():
    """Coulter's arc from the rear axle, 1.4 m behind, to a point 0.8 s ahead on the lane."""
    ahead_m = 0.8 * 8.0
    for (left_m, yaw_deg), label in zip(VIEWS, labels_radps(), strict=True):
        yaw = math.radians(yaw_deg)
        beside_m = left_m - 1.4 * math.sin(yaw)
        lateral_m = -math.sin(yaw) * ahead_m - math.cos(yaw) * beside_m
        curvature = 2.0 * lateral_m / (ahead_m**2 + beside_m**2)
        assert label == pytest.approx(8.0 * curvature, abs=1e-9)


class TestFigures:
    labels = labels_radps()

    def commands(self, rates):
        return np.stack((np.full_like(rates, 5.0), rates), axis=-1)

    def test_of_pure_pursuit_itself(self):
        found = figures(self.commands(np.tile(self.labels, (3, 1))), self.labels)
        assert (found['frames'], found['sign'], found['sign_of_change']) == (3, 1.0, 1.0)
        assert found['r'] == pytest.approx(1.0)
        assert found['rmse_radps'] == pytest.approx(0.0)
        assert found['mean_speed_mps'] == 5.0

    def test_of_the_opposite(self):
        found = figures(self.commands(-self.labels[np.newaxis]), self.labels)
        assert (found['sign'], found['sign_of_change']) == (0.0, 0.0)
        assert found['r'] == pytest.approx(-1.0)
        assert found['rmse_radps'] == pytest.approx(2.0 * found['constant_rmse_radps'])

    def test_of_a_constant(self):
        found = figures(self.commands(np.full((2, 9), 0.1)), self.labels)
        assert (found['sign'], found['r'], found['r_of_change']) == (0.5, 0.0, 0.0)
        assert found['bias_radps'] == pytest.approx(0.1)
        wanted = math.hypot(found['constant_rmse_radps'], 0.1)  # labels have mean zero
        assert found['rmse_radps'] == pytest.approx(wanted, rel=1e-3)

    def test_a_bias_does_not_touch_the_changes(self):
        found = figures(self.commands(self.labels[np.newaxis] + 0.7), self.labels)
        assert found['r_of_change'] == pytest.approx(1.0)
        assert found['bias_radps'] == pytest.approx(0.7)
        assert found['sign'] == 0.5


def line(**fields):
    values = {'file': 'a.png', 'group': 'ours', 'w': 320, 'h': 190, 'fov': 90, 'x': 1.5}
    values |= {'left': 0, 'z': 1.8, 'roll': 0, 'pitch': 0, 'yaw': 0, 'note': 'not read'}
    return values | fields


def write(folder, *lines):
    with (folder / 'frames.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


@pytest.fixture
def folder(world, tmp_path):
    """Return a folder with two frames of the street, in two groups."""
    cv2.imwrite(str(tmp_path / 'a.png'), rendered(world, RECORDED, 0.0, 0.0))
    cv2.imwrite(str(tmp_path / 'b.png'), rendered(world, RECORDED, 0.2, 0.0))
    write(tmp_path, line(), line(file='b.png', group='more', left=0.2))
    return tmp_path


def test_pure_pursuit_is_right_on_every_picture(folder, tmp_path):
    said = run_pictures(folder, DriverParams(driver='pure_pursuit'), POLICY, tmp_path / 'out')
    summary = json.loads((tmp_path / 'out/summary.json').read_text())
    assert list(summary['groups']) == ['more', 'ours', 'all']
    for found in summary['groups'].values():
        assert (found['sign'], found['rmse_radps']) == (1.0, pytest.approx(0.0, abs=1e-6))
        assert found['grey_rmse_radps'] == pytest.approx(0.0, abs=1e-6)
    assert said.splitlines()[0].split() == ['pure', 'pursuit', 'more', 'ours', 'all']
    views = cv2.imread(str(tmp_path / 'out/views.png'))
    assert views.shape == (2 * POLICY.height, 9 * POLICY.width, 3)


@pytest.mark.slow
def test_a_policy_that_ships_steers_on_pictures_of_our_own(folder, tmp_path, capsys):
    out = tmp_path / 'out'
    words = ['--pictures', str(folder), '--policy', 'lane', '--out', str(out)]
    with pytest.raises(SystemExit) as end:
        main(['evaluate', *words])
    assert end.value.code == 0
    found = json.loads((out / 'summary.json').read_text())['groups']['all']
    assert found['sign'] > 0.9
    assert found['r'] > 0.9
    assert 'grey_rmse_radps' not in found  # it has nothing else to see
    assert 'correct sign [%]' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        ([{'file': 'a.png', 'w': 320}], 'no column group, h, fov, x'),
        ([line(fov='wide')], "line 2: fov must be a number, got 'wide'"),
        ([line(), line(w=320.5)], r"line 3: w must be a whole number \[px\], got '320.5'"),
        ([line(z=-1)], r'line 2: z must be in \[0.1, 50\] \[m\], got -1'),
        ([line(fov='nan')], r'line 2: fov_deg must be in \[10, 150\] \[deg\], got nan'),
        ([line(file='c.png')], 'line 2: file .*c.png does not exist'),
        ([line(w=640)], 'a.png has 320 x 190 px, its line in frames.csv says 640 x 190'),
        ([line(file='frames.csv')], 'frames.csv is no picture that OpenCV reads'),
        ([line(pitch=-80)], 'a.png: the camera must see the ground ahead'),
    ],
)
def test_a_line_that_cannot_be_used_is_named(folder, tmp_path, lines, words):
    write(folder, *lines)
    with pytest.raises(ValueError, match=words):
        run_pictures(folder, DriverParams(driver='pure_pursuit'), POLICY, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_folder_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'frames\.csv cannot be read'):
        read_frames(tmp_path)
    (tmp_path / 'frames.csv').write_text(','.join(['file', 'group', *COLUMNS]) + '\n')
    with pytest.raises(ValueError, match=r'frames\.csv names no frame'):
        read_frames(tmp_path)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--map', 'oval'], '--pictures drives nowhere'),
        (['--scenario', 'traffic-20'], '--pictures drives nowhere'),
        (['--driver', 'pure_pursuit_idm'], 'needs a world'),
        (['--driver', 'pure_pursuit', '--policy', 'lane'], '--policy is for --driver td3'),
    ],
)
def test_arguments_of_a_drive_are_refused(folder, words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(['evaluate', '--pictures', str(folder), *words])
    assert end.value.code == 2
    assert said in capsys.readouterr().err
