# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever a file holds, it is refused with its reason before carla.Map sees it."""

import pytest
from xodr_texts import WIDTH, lane, opendrive, road, section

from td3_agent.sim.map_reader import survive_loading
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.opendrive import MapError, checked, lane_spans
from td3_agent.sim.road import RoadMap


def test_good_road_has_one_lane():
    text = opendrive(road([section(0, right=lane(-1))]))
    (span,) = lane_spans(text)
    assert (span.road_id, span.lane_id, span.kind) == (1, -1, 'driving')
    assert (span.s_start_m, span.s_end_m, span.in_junction) == (0.0, 200.0, False)
    assert len(RoadMap('one', text).driving_lanes) == 1


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', 'XML does not parse'),
        ('drive this', 'XML does not parse'),
        ('<OpenDRIVE><road>', 'XML does not parse'),
        ('<html/>', "root element is 'html'"),
        ('<OpenDRIVE/>', 'no driving lane'),
    ],
)
def test_bad_text_is_refused_with_its_reason(text, reason):
    with pytest.raises(MapError, match=reason):
        checked('bad', text)


def declared(name):
    return f'<?xml version="1.0" encoding="{name}"?><OpenDRIVE/>'.encode()


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (None, 'cannot be read: .*No such file'),
        (b' \n', 'is empty'),
        (b'\x7fELF\x00\x80', 'cannot be read: it is no text'),
        *((declared(name), f'cannot be read: .*{name}') for name in ('klingon', 'rot13', 'hex')),
    ],
)
def test_bad_file_is_named(tmp_path, data, reason):
    path = tmp_path / 'odd.xodr'
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(MapError, match=rf'odd\.xodr {reason}'):
        load_map(str(path))


def test_unknown_map_lists_the_known_ones():
    with pytest.raises(MapError, match=r"oval, winding, country, town.*got 'ovall'"):
        load_map('ovall')


@pytest.mark.parametrize('name', ['saved.xodr', 'SAVED.XODR'])
def test_saved_map_loads_like_the_built_in_one(tmp_path, name):
    path = tmp_path / name
    path.write_text(built_in_opendrive('oval', 3))
    saved, built_in = load_map(str(path)), load_map('oval', 3)
    assert saved.name == path.stem
    assert saved.spawn_points == built_in.spawn_points


def test_text_that_crashes_carla_is_an_error_not_a_crash():
    text = built_in_opendrive('oval', 0)
    text = text.replace('<geometry s="0"', '<geometry s="99999"', 1)
    with pytest.raises(MapError, match=r"'crash' is damaged: carla\.Map crashed on it \(SIG"):
        survive_loading('crash', text)


def test_file_that_never_finishes_is_given_up():
    with pytest.raises(MapError, match=r"'slow': carla\.Map did not finish within 0\.001 s"):
        survive_loading('slow', built_in_opendrive('oval', 0), limit_s=0.001)


def test_absurd_width_is_refused():
    wide = WIDTH.replace('a="3.5"', 'a="900"')
    with pytest.raises(MapError, match='widths within 50 m'):
        RoadMap('wide', opendrive(road([section(0, right=lane(-1, width=wide))])))
