# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE texts for tests: straight roads of many sections, and any map seen in a mirror."""

from xml.etree import ElementTree as ET

MARK = '<roadMark sOffset="0" type="{kind}" weight="standard" color="white" width="0.15"/>'
WIDTH = '<width sOffset="0" a="3.5" b="0" c="0" d="0"/>'


def lane(lane_id, *, link='', width=WIDTH, kind='driving', mark='solid'):
    return (
        f'<lane id="{lane_id}" type="{kind}" level="false"><link>{link}</link>'
        f'{width}{MARK.format(kind=mark)}</lane>'
    )


def section(s_m, left='', right=''):
    centre = f'<center><lane id="0" type="none">{MARK.format(kind="broken")}</lane></center>'
    sides = (f'<left>{left}</left>' if left else '', f'<right>{right}</right>' if right else '')
    return f'<laneSection s="{s_m}">{sides[0]}{centre}{sides[1]}</laneSection>'


def line(x_m=0.0, length_m=200.0, y_m=0.0, s_m=0.0):
    return (
        f'<geometry s="{s_m}" x="{x_m}" y="{y_m}" hdg="0" length="{length_m}"><line/></geometry>'
    )


def road(sections, road_id=1, length_m=200.0, *, plan=None, link='', offsets='', attributes=''):  # noqa: PLR0913
    return (
        f'<road name="" id="{road_id}" length="{length_m}" junction="-1" {attributes}>'
        f'<link>{link}</link><planView>{plan or line(length_m=length_m)}</planView>'
        f'<lanes>{offsets}{"".join(sections)}</lanes></road>'
    )


def opendrive(*parts):
    return f'<OpenDRIVE><header revMajor="1" revMinor="7"/>{"".join(parts)}</OpenDRIVE>'


def link(before=None, after=None):
    """Return the inside of a lane's link."""
    return (f'<predecessor id="{before}"/>' if before is not None else '') + (
        f'<successor id="{after}"/>' if after is not None else ''
    )


def two_way(s_m, before=True, after=True):  # noqa: FBT002
    """Return a section with one lane each way, linked to its neighbours."""

    def linked(lane_id):
        return lane(lane_id, link=link(lane_id if before else None, lane_id if after else None))

    return section(s_m, linked(1), linked(-1))


def cut_road(starts_m, length_m=200.0, **options):
    """Return a two-way road cut into linked sections that start at ``starts_m``."""
    last = len(starts_m) - 1
    return road(
        [two_way(s, before=i > 0, after=i < last) for i, s in enumerate(starts_m)],
        length_m=length_m,
        **options,
    )


def mirrored(text):
    """Return a map seen in a mirror along its x axis; traffic keeps to the other side."""
    root = ET.fromstring(text)
    for one in root.findall('road'):
        one.set('rule', 'RHT' if one.get('rule') == 'LHT' else 'LHT')
        for geometry in one.findall('planView/geometry'):
            _negate(geometry, 'y', 'hdg')
            _negate(geometry[0], 'curvature', 'curvStart', 'curvEnd', 'aV', 'bV', 'cV', 'dV')
        for record in [*one.iter('laneOffset'), *one.iter('superelevation')]:
            _negate(record, 'a', 'b', 'c', 'd')
        for part in one.iter('laneSection'):
            _mirror_section(part)
    for lane_link in root.iter('laneLink'):
        _negate(lane_link, 'from', 'to', as_type=int)
    return ET.tostring(root, encoding='unicode')


def _mirror_section(part):
    for side in part:
        side.tag = {'left': 'right', 'right': 'left'}.get(side.tag, side.tag)
    part[:] = sorted(part, key=lambda side: ('left', 'center', 'right').index(side.tag))
    for element in part.iter():
        if element.tag in ('lane', 'predecessor', 'successor'):
            _negate(element, 'id', as_type=int)


def _negate(element, *names, as_type=float):
    for name in names:
        if element.get(name) is not None:
            element.set(name, repr(-as_type(element.get(name))))


def cut(text, spacing_m):
    """Cut every section of a map into linked sections about ``spacing_m`` long."""
    root = ET.fromstring(text)
    for one in root.findall('road'):
        lanes, (whole,) = one.find('lanes'), one.findall('lanes/laneSection')
        length_m = float(one.get('length'))
        number = max(1, int(length_m / spacing_m))
        lanes.remove(whole)
        for i in range(number):
            part = ET.fromstring(ET.tostring(whole))
            part.set('s', repr(i * length_m / number))
            for element in part.iter('lane'):
                if element.get('id') != '0':
                    _link(element, 'predecessor', inner=i > 0)
                    _link(element, 'successor', inner=i < number - 1)
            lanes.append(part)
    return ET.tostring(root, encoding='unicode')


def _link(element, name, *, inner):
    found = element.find('link')
    if found is None:
        found = ET.Element('link')
        element.insert(0, found)
    neighbour = found.find(name)
    if neighbour is None and inner:
        neighbour = ET.SubElement(found, name)
    if inner:
        neighbour.set('id', element.get('id'))


def with_slivers(text, sliver_m=0.004):
    """Renumber the lanes of every path through a junction for a few millimetres at both ends.

    CARLA's towns do so: there is one more lane on the inside, and laneOffset steps by its width.
    """
    root = ET.fromstring(text)
    for one in root.findall('road'):
        if one.get('junction') == '-1':
            continue
        lanes, (whole,) = one.find('lanes'), one.findall('lanes/laneSection')
        assert not whole.findall('left/lane')
        end_m = float(one.get('length')) - sliver_m
        first, last = (_sliver(whole, s_m) for s_m in (0.0, end_m))
        whole.set('s', repr(sliver_m))
        for number, inside in enumerate(whole.findall('right/lane'), start=1):
            for sliver, name in ((first, 'successor'), (last, 'predecessor')):
                _link_to(sliver.findall('right/lane')[number], name, -number)
            for name in ('predecessor', 'successor'):
                _link_to(inside, name, -number - 1)
        for s_m, a in ((end_m, 3.5), (sliver_m, 0.0), (0.0, 3.5)):
            record = {'s': repr(s_m), 'a': repr(a), 'b': '0', 'c': '0', 'd': '0'}
            lanes.insert(0, ET.Element('laneOffset', record))
        lanes[:] = [*lanes.findall('laneOffset'), first, whole, last]
    for lane_link in root.iter('laneLink'):
        lane_link.set('to', str(int(lane_link.get('to')) - 1))
    return ET.tostring(root, encoding='unicode')


def _sliver(whole, s_m):
    """Return a section with one lane more on the inside."""
    sliver = ET.fromstring(ET.tostring(whole))
    sliver.set('s', repr(s_m))
    for outer in sliver.findall('right/lane'):
        outer.set('id', str(int(outer.get('id')) - 1))
    sliver.find('right').insert(0, ET.fromstring(lane(-1, kind='none')))
    return sliver


def _link_to(element, name, lane_id):
    _link(element, name, inner=True)
    element.find(f'link/{name}').set('id', str(lane_id))
