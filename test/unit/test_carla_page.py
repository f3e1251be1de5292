# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""docs/carla.md tells of what is in this repository, and its way to take a town along works."""

import csv
import json
import math
import os
from pathlib import Path
import re
from types import SimpleNamespace

import numpy as np
import pytest

from td3_agent.doctor.facts import PYTHONS_OF_CARLA, version_text

ROOT = Path(__file__).parents[2]
DASH = '\N{EN DASH}'
PAGE = (ROOT / 'docs' / 'carla.md').read_text('utf-8')
PYTHON = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)


def test_versions_are_the_doctors():
    rows = dict(re.findall(rf'\| (0\.9\.\d+) \| ([\d., {DASH}]+) \| ', PAGE))
    assert rows.keys() == PYTHONS_OF_CARLA.keys()
    for version, pythons in PYTHONS_OF_CARLA.items():
        ends = re.split(rf' {DASH} |, ', rows[version])
        assert (ends[0], ends[-1]) == (version_text(pythons[0]), version_text(pythons[-1]))


def test_objects_of_the_file_are_in_the_table_in_order():
    vehicle = json.loads((ROOT / 'config' / 'objects.json').read_text('utf-8'))['objects'][0]
    table = PAGE.partition('## The objects file')[2].partition('\n## ')[0]
    places = [table.index(f'`{o["type"]}`') for o in (vehicle, *vehicle['sensors'])]
    assert places == sorted(places)


def test_files_and_launch_arguments_exist():
    for name in re.findall(r'(?<=[`/…])(?:config|docker|interfaces)/[\w./]+', PAGE):
        assert (ROOT / name).exists(), name
    for name in re.findall(r'ros2 launch td3_agent (\S+)', PAGE):
        shared = (ROOT / 'td3_agent' / 'launching.py').read_text('utf-8')
        source = (ROOT / 'launch' / name).read_text('utf-8') + shared
        words = PAGE.partition(name)[2].partition('```')[0]
        for argument in re.findall(r'(\w+):=', words.partition('\n\n')[0]):
            assert f"'{argument}'" in source, f'{name}: {argument}'


def test_a_town_taken_along_can_be_driven(tmp_path):
    """The page's Python, with a map in place of the server: saved, read again, roads and all."""
    carla = pytest.importorskip('carla')
    pytest.importorskip('cv2')
    from td3_agent.sim.maps import built_in_opendrive, load_map

    (program,) = (code for code in PYTHON if 'Town01' in code)
    *_, save = program.strip().splitlines()
    town = carla.Map('town', built_in_opendrive('town', 0))

    class World:
        def get_map(self):
            return town

    path = tmp_path / 'Town01.xodr'
    exec(save.replace("'Town01.xodr'", repr(str(path))), {'world': World()})
    driven, built_in = load_map(str(path)), load_map('town', 0)
    assert len(driven.spawn_points) == len(built_in.spawn_points) > 0


def test_recorded_frames_are_what_the_benchmark_reads(tmp_path, monkeypatch):
    """The page's recorder, with a map in place of the server and pictures of nothing."""
    carla = pytest.importorskip('carla')
    cv2 = pytest.importorskip('cv2')
    from td3_agent.evaluation.picture_benchmark import read_frames, read_picture
    from td3_agent.sim.maps import built_in_opendrive

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'pictures').mkdir()
    (program,) = (code for code in PYTHON if 'frames.csv' in code)
    functions = program.partition('def keep')
    names = {'csv': csv, 'math': math, 'os': os}
    names['town'] = carla.Map('oval', built_in_opendrive('oval', 0))
    names |= {'folder': 'pictures', 'forward_m': 2.0, 'lines': {}}
    exec(functions[1] + functions[2].partition('\nos.makedirs')[0], names)

    def seen(frame, x_m, left_m, yaw_left_deg):
        """Have a camera on the first straight, in ROS axes along x, say what it sees."""
        place = carla.Location(x_m, 1.75 - left_m, 1.8)  # CARLA's y is to the right
        image = SimpleNamespace(frame=frame, width=32, height=24, fov=90.0)
        image.transform = carla.Transform(place, carla.Rotation(pitch=-8.0, yaw=-yaw_left_deg))
        image.save_to_disk = lambda path: cv2.imwrite(path, np.zeros((24, 32, 3), np.uint8))
        names['keep'](image)

    seen(20, 10.0, 0.4, 3.0)
    seen(21, 10.0, 0.4, 3.0)  # too soon after the one before
    seen(40, 80.0, 0.0, 0.0)  # a bend is ahead
    names['write']()
    (frame,) = read_frames(tmp_path / 'pictures')
    camera = frame.camera
    assert (frame.path.name, frame.group) == ('00000020.png', 'oval')
    assert (camera.x, camera.y, camera.yaw) == pytest.approx((2.0, 0.4, 3.0), abs=1e-3)
    assert (camera.z, camera.pitch, camera.roll) == pytest.approx((1.8, 8.0, 0.0), abs=1e-3)
    assert read_picture(frame).shape == (24, 32, 3)
