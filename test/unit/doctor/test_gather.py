# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the doctor reads of a machine, from planted files."""

from pathlib import Path
import shutil

import pytest

from td3_agent.doctor import gather
from td3_agent.doctor.facts import Copy
from td3_agent.fastdds import FAST_DDS_2, FAST_DDS_3, Profile, read_profile

ROOT = Path(__file__).parents[3]
XMLNS = 'xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"'
SHARED = """<transport_descriptor><transport_id>m</transport_id><type>SHM</type>
<segment_size>8388608</segment_size></transport_descriptor>"""
UDP = """<transport_descriptor><transport_id>u</transport_id><type>UDPv4</type>
<interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList></transport_descriptor>"""
USED = '<userTransports><transport_id>m</transport_id></userTransports>'
ONLY = '<useBuiltinTransports>false</useBuiltinTransports>'


def profiles(descriptors=SHARED, rtps=USED + ONLY, default='is_default_profile="true"', ns=XMLNS):
    return (
        f'<profiles {ns}><transport_descriptors>{descriptors}</transport_descriptors>'
        f'<participant profile_name="p" {default}><rtps>{rtps}</rtps></participant></profiles>'
    )


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a profile of this text, as a participant of Jazzy does."""
    path = tmp_path / 'profile.xml'

    def of(text):
        path.write_text(text, 'utf-8')
        return read_profile({'ROS_DISTRO': 'jazzy', FAST_DDS_2: str(path)})

    return of


class TestProfile:
    @pytest.mark.parametrize('name', ['fastdds_loopback.xml', 'fastdds_camera.xml'])
    def test_ours_are_understood(self, name):
        path = str(ROOT / 'config' / name)
        loopback = name == 'fastdds_loopback.xml'
        wanted = Profile(path, 64 << 20, loopback, shares_memory=True, builtin=False)
        assert read_profile({'ROS_DISTRO': 'jazzy', FAST_DDS_2: path}) == wanted

    @pytest.mark.parametrize('name', ['fastdds_loopback_udp.xml', 'fastdds_camera_udp.xml'])
    def test_without_shared_memory(self, name):
        profile = read_profile({FAST_DDS_3: str(ROOT / 'config' / name)})
        assert not profile.shares_memory
        assert profile.segment_bytes is None
        assert profile.loopback_only == (name == 'fastdds_loopback_udp.xml')

    @pytest.mark.parametrize(
        ('distro', 'variables', 'path'),
        [
            ('humble', {FAST_DDS_3: 'new'}, ''),
            ('jazzy', {FAST_DDS_3: 'new'}, ''),
            ('jazzy', {FAST_DDS_2: 'old', FAST_DDS_3: 'new'}, 'old'),
            ('kilted', {FAST_DDS_3: 'new'}, 'new'),
            ('kilted', {FAST_DDS_2: 'old'}, 'old'),
        ],
    )
    def test_only_a_variable_that_is_read_counts(self, distro, variables, path):
        assert read_profile({'ROS_DISTRO': distro} | variables).path == path

    @pytest.mark.parametrize(
        ('text', 'segment_bytes', 'is_default'),
        [
            (profiles(), 8 << 20, True),
            (profiles(ns=''), 8 << 20, True),
            (f'<dds {XMLNS}>{profiles(ns="")}</dds>', 8 << 20, True),
            (profiles(default=''), None, False),
            (profiles(default='is_default_profile="1"'), None, False),
            (profiles(rtps=''), None, True),
            (profiles(SHARED.replace('8388608', ' 8388608 ')), 8 << 20, True),
            (profiles(SHARED.replace('segment_size', 'port_queue_capacity')), None, True),
            (
                profiles(SHARED + SHARED.replace('>m<', '>other<').replace('8388608', '99999999')),
                8 << 20,
                True,
            ),
            (
                profiles().replace(
                    '</profiles>', '<participant is_default_profile="true"/></profiles>'
                ),
                None,
                True,
            ),
        ],
        ids=[
            'all',
            'no namespace',
            'dds',
            'not default',
            'true is a word',
            'unused transport',
            'spaces',
            'no size',
            'other transport is larger',
            'last default counts',
        ],
    )
    def test_segment_is_that_of_the_default_participant(
        self, read, text, segment_bytes, is_default
    ):
        profile = read(text)
        assert not profile.error
        assert (profile.segment_bytes, profile.is_default) == (segment_bytes, is_default)

    @pytest.mark.parametrize(
        ('rtps', 'loopback_only'),
        [
            (USED.replace('>m<', '>u<') + ONLY, True),
            (USED.replace('>m<', '>u<'), False),
            (USED + ONLY, True),
            ('', False),
        ],
        ids=['loopback', 'built-in too', 'memory alone', 'built-in alone'],
    )
    def test_loopback_is_all_that_is_used(self, read, rtps, loopback_only):
        assert read(profiles(SHARED + UDP, rtps)).loopback_only == loopback_only

    @pytest.mark.parametrize(
        ('text', 'words'),
        [
            ('', 'no element'),
            ('<a>', 'no element'),
            ('<html/>', 'its root must be <profiles> or <dds>, got <html>'),
            (profiles(SHARED.replace('8388608', 'large')), "bytes, got 'large'"),
            (profiles(SHARED.replace('8388608', '-5')), "bytes, got '-5'"),
            (profiles(SHARED.replace('8388608', '8MB')), "bytes, got '8MB'"),
            (profiles(rtps=USED.replace('>m<', '>x<')), "has the transport_id 'x'"),
        ],
        ids=['empty', 'open', 'html', 'words', 'negative', 'unit', 'unknown transport'],
    )
    def test_bad_one_is_an_error(self, read, text, words):
        assert words in read(text).error

    def test_missing_one_is_an_error(self):
        assert read_profile({FAST_DDS_3: '/nowhere.xml'}).error
        assert not read_profile({}).path


class TestMachine:
    def test_copies_in_the_order_of_the_path(self, tmp_path):
        for folder, entry in (('a', 'numpy-2.0.0.dist-info'), ('b', 'numpy-1.26.4.egg-info')):
            (tmp_path / folder / entry).mkdir(parents=True)
        (tmp_path / 'b' / 'opencv_python-4.9.0.80.dist-info').mkdir()
        (tmp_path / 'b' / 'scipy-1.8.0-py3.10.egg-info').touch()
        (tmp_path / 'b' / 'unwatched-1.0.dist-info').mkdir()
        a, b = str(tmp_path / 'a'), str(tmp_path / 'b')
        found = list(gather.installed_copies([a, str(tmp_path / 'none'), b, a]))
        assert found == [
            Copy('numpy', '2.0.0', a),
            Copy('numpy', '1.26.4', b),
            Copy('opencv-python', '4.9.0.80', b),
            Copy('scipy', '1.8.0', b),
        ]

    @pytest.mark.parametrize(
        ('port', 'domain_id'),
        [(7410, 0), (7412, 0), (7411, None), (7400, None), (9160, 7), (32660, 101), (53, None)],
    )
    def test_discovery_ports(self, port, domain_id):
        assert gather.domain_of(port) == domain_id

    def test_participants_are_counted_by_user(self):
        row = '{n}: 00000000:{port:04X} 00000000:0000 07 0:0 00:0 0 {user} 0 {inode} 2 0 0'
        rows = [row.format(n=k, port=9160 + 2 * k, user=1000 + k, inode=0) for k in range(2)]
        table = gather.udp_table('\n'.join(['header', *rows]))
        assert [port for port, _, _ in table] == [9160, 9162]
        found = list(gather.participants(table))
        assert [(p.domain_id, p.user) for p in found] == [(7, 1000), (7, 1001)]

    @pytest.mark.parametrize(
        ('words', 'name'),
        [
            ('/usr/bin/python3 -u /ws/lib/td3_agent/td3_agent_node --ros-args', 'td3_agent_node'),
            ('python3 -m td3_agent demo -m x', 'td3_agent'),
            ('python3 -m td3_agent.nodes.synchronizer_node --ros-args', 'synchronizer_node'),
            ('python3 -u -c import_this_and_that', 'python3 -c'),
            ('/opt/ros/jazzy/lib/tool/talker -c x', 'talker'),
            ('python3', 'python3'),
        ],
    )
    def test_program_is_called_what_people_call_it(self, words, name):
        assert gather._program_name([*words.split(), '']) == name

    def test_disk_of_a_folder_to_come(self, tmp_path):
        facts = gather.disk_facts(tmp_path / 'a' / 'b')
        assert 0 < facts['disk_free_bytes'] <= shutil.disk_usage(tmp_path).total
        assert not facts['disk_error']
        assert not (tmp_path / 'a').exists()

    def test_folder_that_cannot_be_made_says_why(self, tmp_path, monkeypatch):
        (tmp_path / 'file').touch()
        assert 'is not a folder' in gather.disk_facts(tmp_path / 'file' / 'a')['disk_error']
        assert 'too long' in gather.disk_facts(tmp_path / ('a' * 300))['disk_error']
        # To root all is writable.
        monkeypatch.setattr('os.access', lambda *_: False)
        assert 'is not writable' in gather.disk_facts(tmp_path)['disk_error']

    def test_folders_of_this_package(self, monkeypatch):
        assert gather.package_folders() == (str(ROOT), str(ROOT / 'config'))
        # As installed without its sources, with no ROS 2 sourced.
        monkeypatch.setattr(gather, '__file__', '/site-packages/td3_agent/doctor/gather.py')
        monkeypatch.setattr(gather, 'shared_path', lambda _: Path('/nowhere').stat())
        assert gather.package_folders() == ('', 'config')
