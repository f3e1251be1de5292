# SPDX-License-Identifier: Apache-2.0
"""docs/carla.md tells of what is in this repository, and its way to take a town along works."""

import json
from pathlib import Path
import re

import pytest

from td3_agent.doctor.versions import PYTHONS_OF_CARLA, text

ROOT = Path(__file__).parents[2]
DASH = '\N{EN DASH}'
PAGE = (ROOT / 'docs' / 'carla.md').read_text('utf-8')


def test_versions_are_the_doctors():
    rows = dict(re.findall(rf'\| (0\.9\.\d+) \| ([\d., {DASH}]+) \| ', PAGE))
    assert rows.keys() == PYTHONS_OF_CARLA.keys()
    for version, pythons in PYTHONS_OF_CARLA.items():
        ends = re.split(rf' {DASH} |, ', rows[version])
        assert (ends[0], ends[-1]) == (text(pythons[0]), text(pythons[-1]))


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

    program = re.search(r'```python\n(.*?)```', PAGE, re.DOTALL)[1]
    *_, save = program.strip().splitlines()
    town = carla.Map('town', built_in_opendrive('town', 0))

    class World:
        def get_map(self):
            return town

    path = tmp_path / 'Town01.xodr'
    exec(save.replace("'Town01.xodr'", repr(str(path))), {'world': World()})
    driven, built_in = load_map(str(path)), load_map('town', 0)
    assert len(driven.spawn_points) == len(built_in.spawn_points) > 0
