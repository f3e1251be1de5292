# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What other tools write, carla.Map takes: each cure leads to the road that was meant."""

import math
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from xodr_texts import WIDTH, cut_road, lane, line, link, opendrive, road, section, two_way

from td3_agent.sim.maps import built_in_opendrive
from td3_agent.sim.opendrive import MapError, checked, decoded, parsed, prepared
from td3_agent.sim.road import RoadMap

EXACT_M = 2e-3
PLAIN = opendrive(cut_road([0.0]))


def loaded(text):
    """Return the map, by way of every cure."""
    return RoadMap('map', checked('map', text).opendrive)


def centres(road_map):
    return np.concatenate([one.centre for one in road_map.driving_lanes])


def same_as_plain(text):
    road_map, plain = loaded(text), loaded(PLAIN)
    assert len(road_map.spawn_points) == len(plain.spawn_points) == 16
    assert np.allclose(centres(road_map), centres(plain), atol=EXACT_M)


def geometry(shape, length_m=200.0):
    return f'<geometry s="0" x="0" y="0" hdg="0" length="{length_m}">{shape}</geometry>'


PREFIXED = PLAIN.replace('<', '<o:').replace('<o:/', '</o:')
JUNK = (
    '<signals><signal id="1" s="nowhere"/><signalReference id="77" s="1" t="0"/></signals>'
    '<objects><object id="x" s="nan"/></objects>'
)
HALVES = line(0.0, 100.0), line(100.0, 100.0, s_m=100.0)


def profile(tag, starts_m):
    """Return the plain road with flat records of a profile that begins late or in disorder."""
    records = ''.join(f'<{tag} s="{s}" a="0" b="0" c="0" d="0"/>' for s in starts_m)
    parent = {'elevation': 'elevationProfile', 'superelevation': 'lateralProfile'}[tag]
    return PLAIN.replace('<lanes>', f'<{parent}>{records}</{parent}><lanes>')


@pytest.mark.parametrize(
    'text',
    [
        # Namespaces, blank lines, another case of the root; the word DOCTYPE declares nothing.
        '\n  \n' + PLAIN.replace('<OpenDRIVE>', '<OpenDRIVE xmlns="http://x.org/1">'),
        PREFIXED.replace('<o:OpenDRIVE>', '<o:OpenDRIVE xmlns:o="urn:x">'),
        PLAIN.replace('OpenDRIVE>', 'OpenDrive>'),
        PLAIN.replace('<header', '<!-- no <!DOCTYPE here --><header'),
        PLAIN.replace('<header', '<userData><![CDATA[<!DOCTYPE a>]]></userData><header'),
        # A road outside junctions says so in other words.
        *(PLAIN.replace('junction="-1"', value) for value in ('junction=""', 'junction=" "', '')),
        # Signals, objects and controllers play no role.
        PLAIN.replace('</road>', JUNK + '</road>').replace(
            '</OpenDRIVE>', '<controller id="c"/><tunnel/></OpenDRIVE>'
        ),
        # A shape that does not bend is a line.
        *(
            opendrive(cut_road([0.0], plan=geometry(shape)))
            for shape in (
                '<arc curvature="0"/>',
                '<arc curvature="-0.0"/>',
                '<arc curvature="1e-12"/>',
                '<spiral curvStart="0" curvEnd="0"/>',
                '<spiral curvStart="1e-12" curvEnd="1e-12"/>',
                '<spiral curvStart="-1e-12" curvEnd="1e-15"/>',
                '<poly3 a="0" b="0" c="0" d="0"/>',
                '<paramPoly3 bU="1" pRange="arcLength"/>',
                '<paramPoly3 bU="200" pRange="NORMALIZED"/>',
                '<paramPoly3 aU="0" bU="0" cU="0" dU="0" aV="0" bV="0" cV="0" dV="0"/>',
                '<userData/><line/>',
            )
        ),
        # Geometries in any order; those without length are left out.
        *(
            opendrive(cut_road([0.0], plan=''.join(pieces)))
            for pieces in (
                HALVES[::-1],
                (line(0.0, 0.0), *HALVES),
                (line(0.0, 9e-4), line(9e-4, 9e-4, s_m=9e-4), line(0.0018, 99.9982, s_m=0.0018),
                 HALVES[1]),
                (HALVES[0], line(100.0, 0.0, s_m=100.0), HALVES[1]),
                (*HALVES, line(200.0, 0.0, s_m=200.0)),
            )
        ),
        *(
            profile(tag, starts_m)
            for tag in ('elevation', 'superelevation')
            for starts_m in ([50.0], [50.0, 20.0], [1e-5, 100.0], [-1.0, 50.0], [])
        ),
        PLAIN.replace(' b="0" c="0" d="0"', ''),  # missing coefficients are zero
        # The first section starts at zero but for rounding.
        *(opendrive(cut_road([start_m])) for start_m in (1e-12, 1e-4, 9e-4, -1e-6)),
        # Lanes that cars drive on are driving lanes.
        *(
            PLAIN.replace('type="driving"', f'type="{kind}"')
            for kind in ('Driving', 'onRamp', 'offRamp', 'entry', 'exit', 'connectingRamp',
                         'bidirectional', 'slipLane', 'mwyEntry', ' mwyExit ')
        ),
    ],
)  # fmt: skip
def test_other_words_for_the_plain_road(text):
    same_as_plain(text)


# ---- Text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('declared', 'encoding'),
    [
        ('UTF-8', 'utf-8'),
        ('UTF-8', 'utf-8-sig'),
        ('UTF-16', 'utf-16'),
        ('UTF-16', 'utf-16-le'),
        ('utf-16', 'utf-16-be'),
        ('UTF-16', 'utf-8'),  # saved again by an editor
        ('ISO-8859-1', 'iso-8859-1'),
        ('windows-1252', 'cp1252'),
        ('UTF-8', 'cp1252'),  # a lie about the letters of one name
        ('GB2312', 'gb2312'),
        ('UTF-32', 'utf-32'),
    ],
)
def test_encoding_is_the_one_of_the_declaration_or_of_the_mark(declared, encoding):
    name = '街' if encoding == 'gb2312' else 'Straße'
    text = f'<?xml version="1.0" encoding="{declared}" standalone="yes"?>' + PLAIN.replace(
        'name=""', f'name="{name}"'
    )
    data = text.encode(encoding)
    same_as_plain(decoded(data))
    if (declared, encoding) != ('UTF-8', 'cp1252'):
        assert name in decoded(data)


@pytest.mark.parametrize(
    ('declaration', 'where'),
    [
        ('<!DOCTYPE OpenDRIVE SYSTEM "x.dtd">', 'delete line 2$'),
        ('<!DOCTYPE o [\n<!ENTITY a "b">\n]>', 'delete lines 2 to 4$'),
        (
            '<!DOCTYPE o [<!ENTITY a "b"><!ENTITY c "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
            'delete line 2$',
        ),
    ],
)
def test_document_type_is_refused_with_its_line(declaration, where):
    with pytest.raises(MapError, match=where):
        parsed(f'<?xml version="1.0"?>\n{declaration}\n{PLAIN}')


# ---- Names -------------------------------------------------------------------------------------


def two_roads(first, second, *, before=None, after=None, attributes=''):
    """Return two roads in a row, by their ids."""
    ends = (
        f'<successor elementType="road" elementId="{after or second}" contactPoint="start"/>',
        f'<predecessor elementType="road" elementId="{before or first}" contactPoint="end"/>',
    )
    return opendrive(
        road([two_way(0, before=False)], first, link=ends[0], attributes=attributes),
        road([two_way(0, after=False)], second, plan=line(200.0), link=ends[1]),
    )


@pytest.mark.parametrize(
    ('first', 'second'),
    [('main_street', 'side street'), ('1', 'B'), ('0', '7'), ('-3', '4'), ('1.5', '2.5'),
     ('007', '7'), ('99999999999', '1'), ('{a-b}', '{c-d}')],
)  # fmt: skip
def test_any_words_are_ids(first, second):
    road_map = loaded(two_roads(first, second))
    assert len(road_map.spawn_points) == 32
    assert sorted(map(len, road_map.lane_followers)) == [0, 0, 1, 1]


def test_whole_numbers_stay_as_they_are():
    spans = {one.span.road_id for one in loaded(two_roads('17', '4')).lanes}
    assert spans == {17, 4}


def test_junction_with_the_number_of_a_road_is_another_thing():
    text = built_in_opendrive('town', 0)
    root = ET.fromstring(text)
    roads = {one.get('id') for one in root.findall('road')}
    names = {j.get('id'): str(number) for number, j in enumerate(root.findall('junction'), 1)}
    assert set(names.values()) <= roads
    for junction in root.findall('junction'):
        junction.set('id', names[junction.get('id')])
    for one in root.findall('road'):
        one.set('junction', names.get(one.get('junction'), '-1'))
        for end in one.findall('link/*'):
            if end.get('elementType') == 'junction':
                end.set('elementId', names[end.get('elementId')])
    clashing, plain = loaded(ET.tostring(root, encoding='unicode')), loaded(text)
    assert clashing.lane_followers == plain.lane_followers
    assert clashing.spawn_points == plain.spawn_points


def test_virtual_junction_is_left_out_with_its_roads():
    text = opendrive(
        cut_road([0.0]),
        road([two_way(0)], 2).replace('junction="-1"', 'junction="60"'),
        '<junction id="60" type="virtual" mainRoad="1"><connection id="0" incomingRoad="1"/>'
        '</junction>',
    )
    same_as_plain(text)
    assert 'junction 60 is virtual' in prepared(text).cures[0]


# ---- Shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize('more', [0.0, 1e-12, -1e-10])
def test_spiral_that_bends_no_further_is_an_arc(more):
    ends = [
        loaded(opendrive(cut_road([0.0], plan=geometry(shape))))
        for shape in (
            f'<spiral curvStart="0.01" curvEnd="{0.01 + more}"/>',
            '<arc curvature="0.01"/>',
        )
    ]
    assert np.allclose(centres(ends[0]), centres(ends[1]), atol=EXACT_M)


# ---- Records -----------------------------------------------------------------------------------


def test_elevation_before_the_first_record_is_zero():
    records = '<elevation s="50" a="2" b="0" c="0" d="0"/>'
    text = PLAIN.replace('<lanes>', f'<elevationProfile>{records}</elevationProfile><lanes>')
    centre = loaded(text).driving_lanes[1].centre
    assert np.allclose(centre[centre[:, 0] < 49.0, 2], 0.0)
    assert np.allclose(centre[centre[:, 0] > 51.0, 2], 2.0)


@pytest.mark.parametrize('late_first', [False, True])
def test_lane_offset_before_the_first_record_is_zero(late_first):
    records = [f'<laneOffset s="{s}" a="{a}" b="0" c="0" d="0"/>' for s, a in [(25, 1), (60, 2)]]
    text = opendrive(
        cut_road([0.0], offsets=''.join(reversed(records) if late_first else records))
    )
    (right,) = (one for one in loaded(text).driving_lanes if one.span.lane_id == -1)
    for x_m, offset_m in ((20.0, 0.0), (40.0, 1.0), (100.0, 2.0)):
        y_m = np.interp(x_m, right.centre[:, 0], right.centre[:, 1])
        assert y_m == pytest.approx(-1.75 + offset_m, abs=0.01)


def test_width_before_the_first_record_is_zero():
    late = WIDTH.replace('sOffset="0"', 'sOffset="20"')
    text = opendrive(road([section(0, right=lane(-1, width=late))]))
    (only,) = loaded(text).driving_lanes
    assert only.centre[0, 0] >= 19.9
    assert np.allclose(only.width_m[1:], 3.5)


@pytest.mark.parametrize('inner_has_width', [False, True])
def test_borders_are_widths(inner_has_width):
    def border(offset_m, slope=0.0):
        return (
            f'<border sOffset="0" a="{offset_m}" b="0" c="0" d="0"/>'
            f'<border sOffset="100" a="{offset_m}" b="{slope}" c="0" d="0"/>'
        )

    def lanes(sign):
        first = WIDTH if inner_has_width else border(sign * 3.5)
        second = border(sign * 6.5, sign * 0.01)
        return lane(sign, width=first) + lane(2 * sign, width=second)

    for one in loaded(opendrive(road([section(0, lanes(1), lanes(-1))]))).driving_lanes:
        x_m = one.centre[:, 0]
        second = 3.0 + np.maximum(0.0, x_m - 100.0) * 0.01
        wanted = 3.5 if abs(one.span.lane_id) == 1 else second
        assert np.allclose(one.width_m, wanted, atol=0.02)


# ---- Sections and lanes ------------------------------------------------------------------------


@pytest.mark.parametrize('starts_m', [[0.0, 1e-9], [0.0, 100.0, 100.000001], [0.0, 199.9999999]])
def test_section_without_length_is_left_out(starts_m):
    road_map = loaded(opendrive(cut_road(starts_m)))
    assert len(road_map.spawn_points) == 16
    sections = max(one.span.section for one in road_map.driving_lanes) + 1
    assert sections == sum(1 for s in starts_m[1:] if s == 100.0) + 1
    assert sum(map(len, road_map.lane_followers)) == 2 * (sections - 1)


def test_links_lead_through_a_section_that_is_left_out():
    text = opendrive(
        road(
            [
                section(0, right=lane(-1, link=link(after=-2))),
                section(100, right=lane(-1) + lane(-2, link=link(-1, -1))),
                section(100.0001, right=lane(-1, link=link(-2))),
            ]
        )
    )
    road_map = loaded(text)
    assert [one.span.lane_id for one in road_map.driving_lanes] == [-1, -1]
    assert road_map.lane_followers == ((1,), ())


def test_sections_in_any_order_and_without_a_centre():
    parts = [two_way(100.0, after=False), two_way(0.0, before=False)]
    road_map = loaded(opendrive(road(parts)))
    assert len(road_map.spawn_points) == 16
    text = PLAIN[: PLAIN.index('<center>')] + PLAIN[PLAIN.index('</center>') + 9 :]
    assert len(loaded(text).spawn_points) == 16


def test_shared_lane_between_driving_lanes_is_left_to_itself():
    text = opendrive(road([section(0, right=lane(-1, kind='bidirectional') + lane(-2))]))
    assert [one.span.lane_id for one in loaded(text).driving_lanes] == [-2]


@pytest.mark.parametrize('rule', ['lht', ' LHT ', 'Lht'])
def test_rule_is_read_without_case(rule):
    spans = [
        one.span for one in loaded(PLAIN.replace('junction=', f'rule="{rule}" junction=')).lanes
    ]
    assert all(span.left_hand for span in spans)


# ---- Place -------------------------------------------------------------------------------------


@pytest.mark.parametrize('offset', ['', '<offset x="10" y="20" z="0" hdg="0"/>'])
def test_map_far_out_is_moved_to_a_local_origin(offset):
    text = opendrive(cut_road([0.0], plan=line(691_500.25, y_m=5_335_800.5)))
    text = text.replace(' revMinor="7"/>', f' revMinor="7">{offset}</header>')
    found = checked('far', text)
    assert found.origin_m == (691_500.0, 5_335_800.0)
    road_map = RoadMap('far', found.opendrive)
    assert np.allclose(
        centres(road_map)[:, :2] - [0.25, 0.5], centres(loaded(PLAIN))[:, :2], atol=EXACT_M
    )
    header = ET.fromstring(found.opendrive).find('header/offset')
    wanted = (691_510.0, 5_335_820.0) if offset else found.origin_m
    assert (float(header.get('x')), float(header.get('y'))) == wanted


def test_offset_that_turns_the_map_turns_the_move():
    text = opendrive(cut_road([0.0], plan=line(1e6)))
    text = text.replace(
        ' revMinor="7"/>', f' revMinor="7"><offset x="0" y="0" hdg="{math.pi / 2}"/></header>'
    )
    header = ET.fromstring(checked('far', text).opendrive).find('header/offset')
    assert float(header.get('x')) == pytest.approx(0.0, abs=1e-6)
    assert float(header.get('y')) == 1e6


def test_local_map_stays_where_it_is():
    assert checked('near', opendrive(cut_road([0.0], plan=line(15_000.0)))).origin_m == (0.0, 0.0)


@pytest.mark.parametrize('projection', [None, '', '+proj=utm +zone=32', 'EPSG:25832'])
def test_map_loads_in_silence_whatever_its_projection(capfd, projection):
    header = f'<geoReference><![CDATA[{projection}]]></geoReference></header>'
    text = PLAIN if projection is None else PLAIN.replace('7"/>', f'7">{header}')
    found = checked('silent', text)
    RoadMap('silent', found.opendrive)
    assert capfd.readouterr().err == ''
    kept = ET.fromstring(found.opendrive).findtext('header/geoReference')
    assert kept == (projection or '+proj=tmerc +lat_0=42 +lon_0=2 +datum=WGS84')


@pytest.mark.parametrize('name', ['oval', 'winding', 'town'])
def test_sound_map_stays_what_it_is(name):
    text = built_in_opendrive(name, 0)
    found = checked(name, text)
    assert (found.faults, found.cures) == ((), ())
    assert np.array_equal(centres(RoadMap(name, text)), centres(RoadMap(name, found.opendrive)))
