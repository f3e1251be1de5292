# SPDX-License-Identifier: Apache-2.0
"""Whatever a file holds, it is refused with its reason before carla.Map sees it."""

import pytest

from td3_agent.sim.map_reader import survive_loading
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.opendrive import MapError, checked, lane_spans, read_opendrive
from td3_agent.sim.road import RoadMap

ROAD = (
    '<OpenDRIVE><header/><road id="{id}" length="{length}" junction="-1"><planView>'
    '<geometry s="0" x="{x}" y="0" hdg="0" length="50">{shape}</geometry></planView><lanes>'
    '<laneSection s="0"><center><lane id="0" type="none"/></center><right>'
    '<lane id="-1" type="{kind}"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane>'
    '</right></laneSection></lanes></road></OpenDRIVE>'
)
GOOD = {'id': 1, 'length': 50, 'x': 0, 'kind': 'driving', 'shape': '<line/>'}


def test_good_road_has_one_lane():
    (span,) = lane_spans(ROAD.format(**GOOD))
    assert (span.road_id, span.lane_id, span.kind) == (1, -1, 'driving')
    assert (span.s_start_m, span.s_end_m, span.in_junction) == (0.0, 50.0, False)


def test_good_road_loads():
    assert len(RoadMap('one', ROAD.format(**GOOD)).driving_lanes) == 1


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', 'XML does not parse'),
        ('drive this', 'XML does not parse'),
        ('<OpenDRIVE><road>', 'XML does not parse'),
        ('<html/>', "root element is 'html'"),
        ('<OpenDRIVE/>', 'no driving lane'),
        (ROAD.format(**GOOD | {'length': 'nan'}), "road 1: length must be a number, got 'nan'"),
        (ROAD.format(**GOOD | {'length': 0}), r'road 1: length must be > 0 \[m\], got 0'),
        (
            ROAD.format(**GOOD | {'x': 'inf'}),
            "road 1, geometry s=0: x must be a number, got 'inf'",
        ),
        (ROAD.format(**GOOD | {'shape': ''}), 'geometry s=0: has no shape: expected one of line'),
        (ROAD.format(**GOOD | {'kind': 'sidewalk'}), r'no driving lane.*none .*sidewalk \(1 x\)'),
        (ROAD.format(**GOOD).replace('laneSection', 'other'), 'road 1: has no laneSection'),
        (ROAD.format(**GOOD).replace('geometry', 'other'), 'road 1: has no planView geometry'),
        (ROAD.format(**GOOD).replace('laneSection s="0"', 'laneSection s="9"'), 'start at s=0'),
    ],
)
def test_bad_text_is_refused_with_its_reason(text, reason):
    with pytest.raises(MapError, match=reason):
        checked('bad', text)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MapError, match=r'nowhere\.xodr cannot be read'):
        load_map(str(tmp_path / 'nowhere.xodr'))


def test_empty_file_is_named(tmp_path):
    (tmp_path / 'empty.xodr').write_text(' \n')
    with pytest.raises(MapError, match=r'empty\.xodr is empty'):
        load_map(str(tmp_path / 'empty.xodr'))


def test_binary_file_is_named(tmp_path):
    (tmp_path / 'binary.xodr').write_bytes(b'\x7fELF\x00\x80')
    with pytest.raises(MapError, match=r'binary\.xodr cannot be read: it is no text'):
        read_opendrive(tmp_path / 'binary.xodr')


@pytest.mark.parametrize('name', ['klingon', 'rot13', 'hex'])
def test_unknown_encoding_is_named(tmp_path, name):
    (tmp_path / 'odd.xodr').write_text(f'<?xml version="1.0" encoding="{name}"?><OpenDRIVE/>')
    with pytest.raises(MapError, match=rf'odd\.xodr cannot be read: .*{name}'):
        read_opendrive(tmp_path / 'odd.xodr')


def test_unknown_map_lists_the_known_ones():
    with pytest.raises(MapError, match=r"oval, winding, country, town.*got 'ovall'"):
        load_map('ovall')


def test_saved_map_loads_like_the_built_in_one(tmp_path):
    path = tmp_path / 'saved.xodr'
    path.write_text(built_in_opendrive('oval', 3))
    saved, built_in = load_map(str(path)), load_map('oval', 3)
    assert saved.name == 'saved'
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
    text = ROAD.format(**GOOD).replace('a="3.5"', 'a="900"')
    with pytest.raises(MapError, match='widths within 50 m'):
        RoadMap('wide', text)
