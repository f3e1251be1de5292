# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A map is read in a child process: the same graph, and refusals in words."""

import dataclasses
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from td3_agent.sim.map_reader import GraphReader, read_graph
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.opendrive import MapError
from td3_agent.sim.road_graph import road_graph


def test_the_graph_is_that_of_the_map():
    found = GraphReader('town', built_in_opendrive('town', 2)).graph()
    wanted = road_graph(load_map('town', 2))
    assert found.name == 'town'
    assert found.network.followers == wanted.network.followers
    for spec in dataclasses.fields(wanted.network):
        value = getattr(wanted.network, spec.name)
        if isinstance(value, np.ndarray):
            assert (getattr(found.network, spec.name) == value).all(), spec.name
    assert (found.spawn_points == wanted.spawn_points).all()


def test_coordinates_are_those_of_the_text():
    """Odometry comes in them, also where lanes are worked out about an origin of their own."""
    root = ET.fromstring(built_in_opendrive('oval', 0))
    for geometry in root.iter('geometry'):
        for axis, far_m in (('x', 691_500.25), ('y', 5_334_000.5)):
            geometry.set(axis, repr(float(geometry.get(axis)) + far_m))
    found = read_graph('far', ET.tostring(root, encoding='unicode'))
    wanted = road_graph(load_map('oval'))
    moved = wanted.spawn_points + np.array((691_500.25, 5_334_000.5, 0.0, 0.0))
    assert found.spawn_points == pytest.approx(moved, abs=0.01)
    assert found.network.x_m == pytest.approx(wanted.network.x_m + 691_500.25, abs=0.01)
    assert found.network.y_m == pytest.approx(wanted.network.y_m + 5_334_000.5, abs=0.01)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('no map at all', 'XML does not parse'),
        ('<OpenDRIVE/>', 'no driving lane'),
        ('<OpenDRIVE>\ud800</OpenDRIVE>', 'no driving lane'),
    ],
)
def test_what_is_no_map_is_refused(text, words):
    with pytest.raises(MapError, match=words):
        GraphReader('damaged', text).graph()


def test_a_reader_that_crashes_is_said():
    reader = GraphReader('long', built_in_opendrive('town', 0))
    reader.cancel()
    assert reader.done
    with pytest.raises(MapError, match=r"'long' is damaged: carla.Map crashed on it \(SIGKILL\)"):
        reader.graph()


def test_patience_has_an_end():
    text = built_in_opendrive('oval', 0)
    with pytest.raises(MapError, match=re.escape("map 'oval': not read within 0.01 s")):
        GraphReader('oval', text, limit_s=0.01).graph()
