# SPDX-License-Identifier: Apache-2.0
"""The doctor finds what is planted, is silent where nothing is, and starts without ROS 2."""

from dataclasses import fields, replace
import json
import os
from pathlib import Path
import subprocess
import sys

import doctor_faults
from doctor_faults import HEALTHY, HEALTHY_GRAPH, PLANTED
import pytest

from td3_agent.__main__ import main
from td3_agent.doctor import gather
from td3_agent.doctor.checks import CHECKS, all_findings
from td3_agent.doctor.command import camera_size, is_bad
from td3_agent.doctor.facts import Copy, Graph, Machine
from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.gather_imports import gather_imports
from td3_agent.doctor.graph_checks import GRAPH_CHECKS, graph_findings
from td3_agent.doctor.versions import CARLA_MSGS_HASHES, distros_for_carla

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0  # of a busy machine


class TestPlanted:
    @pytest.mark.parametrize('planted', PLANTED, ids=lambda p: p.what)
    def test_is_found_with_a_fix(self, planted):
        finding = planted.finding()
        assert finding.fix or finding.level is Level.NOTE
        assert len(finding.line().splitlines()) == 1

    @pytest.mark.parametrize(
        ('judge', 'healthy'), [(all_findings, HEALTHY), (graph_findings, HEALTHY_GRAPH)]
    )
    def test_health_is_silent(self, judge, healthy):
        assert [f.line() for f in judge(healthy) if f.level > Level.OK] == []

    @pytest.mark.parametrize('check', [*CHECKS, *GRAPH_CHECKS], ids=lambda c: c.__name__)
    def test_every_check_has_a_fault_of_its_own(self, check):
        healthy = HEALTHY_GRAPH if check in GRAPH_CHECKS else HEALTHY
        patients = [p.patient for p in PLANTED if isinstance(p.patient, type(healthy))]
        assert any(f.level > Level.OK for patient in patients for f in check(patient))

    def test_table_is_up_to_date(self):
        assert doctor_faults.main(['--check']) == 0

    def test_a_fault_that_is_not_found_is_named(self):
        planted = replace(PLANTED[0], patient=HEALTHY)
        with pytest.raises(ValueError, match=r'Python 3\.8: not found by python'):
            planted.finding()


class TestPureChecks:
    def test_nothing_known_is_no_crash(self):
        assert all_findings(Machine(python=(3, 12), executable='python'))
        assert graph_findings(Graph(domain_id=0))

    @pytest.mark.parametrize('field', [f.name for f in fields(Machine) if f.default is not None])
    def test_each_fact_may_be_missing(self, field):
        empty = Machine(python=(3, 12), executable='')
        assert all_findings(replace(HEALTHY, **{field: getattr(empty, field)}))

    def test_a_larger_segment_than_the_image_is_not_enough_for_several(self):
        profile = replace(HEALTHY.profile, segment_bytes=4 << 20)
        found = all_findings(replace(HEALTHY, camera_px=(800, 600), profile=profile))
        assert 'segment_size of at least 7680000' in next(f.fix for f in found if f.check == 'shm')

    def test_suggested_domain_is_free(self):
        planted = next(p for p in PLANTED if p.what == 'another user in our domain')
        others = tuple(replace(planted.patient.participants[0], domain_id=k) for k in (1, 2, 7))
        found = all_findings(replace(planted.patient, participants=others))
        assert 'ROS_DOMAIN_ID=3' in next(f.fix for f in found if f.check == 'domain')

    def test_distros_share_a_python_with_carla(self):
        assert distros_for_carla('0.9.16') == ['humble', 'iron', 'jazzy', 'kilted']
        assert distros_for_carla('0.9.13') == ['foxy', 'galactic']
        assert distros_for_carla('9.9.9') == []

    def test_our_own_definitions_have_the_hashes(self):
        """Of the interface package in this repository, built where ROS 2 is."""
        pytest.importorskip('carla_msgs')
        hashes = gather.message_hashes(os.environ.get('AMENT_PREFIX_PATH', '').split(':'))
        if not hashes:
            pytest.skip('this ROS 2 has no type hashes')
        assert CARLA_MSGS_HASHES.items() <= hashes.items()

    @pytest.mark.parametrize(
        ('levels', 'plain', 'strict'),
        [([], False, False), ([0, 1], False, False), ([2], False, True), ([1, 3], True, True)],
    )
    def test_exit_follows_the_worst(self, levels, plain, strict):
        findings = [Finding(Level(level), 'x', 'y') for level in levels]
        assert is_bad(findings, strict=False) == plain
        assert is_bad(findings, strict=True) == strict

    @pytest.mark.parametrize('text', ['', '800', '0x600', '800x', 'x', '-1x5', '8.5x6'])
    def test_camera_size_is_refused(self, text):
        with pytest.raises(ValueError, match=r'camera must be WIDTHxHEIGHT \[px\], as 800x600'):
            camera_size(text)


class TestImports:
    """Modules that are really broken, really imported."""

    @pytest.fixture
    def found(self, tmp_path, monkeypatch):
        texts = {
            'good': '__version__ = "1.2"',
            'refuses': 'raise ImportError("numpy.core.multiarray failed to import")',
            'crashes': 'import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)',
            'leaves': 'import os\nos._exit(3)',
            'clashes': 'import sys\nif "good" in sys.modules: raise ImportError("after good")',
            'half': 'import sys\nsys.stderr.write("A module compiled using NumPy 1.x\\n")',
            'lacks': 'import no_such_module_at_all',
            'last': '',
        }
        for name, text in texts.items():
            (tmp_path / f'{name}.py').write_text(text, 'utf-8')
        monkeypatch.syspath_prepend(tmp_path)
        return gather_imports([*texts, 'no_such'], PATIENCE_S)[0]

    def test_each_fault_is_told_apart(self, found, tmp_path):
        assert found['good'].version == '1.2'
        assert found['good'].path == str(tmp_path / 'good.py')
        assert 'multiarray failed' in found['refuses'].error
        assert found['refuses'].alone is False
        assert found['crashes'].error == 'the import was ended by signal 11'
        assert found['leaves'].error == 'the import ended the program with 3'
        assert 'compiled using NumPy' in found['half'].error
        assert not found['lacks'].missing  # it is there, what it needs is not
        assert found['no_such'].missing

    def test_what_comes_after_a_crash_is_still_tried(self, found):
        assert not found['last'].error

    def test_a_clash_needs_two(self, tmp_path, monkeypatch):
        (tmp_path / 'first_one.py').write_text('', 'utf-8')
        text = 'import sys\nif "first_one" in sys.modules: raise ImportError("no")'
        (tmp_path / 'second_one.py').write_text(text, 'utf-8')
        monkeypatch.syspath_prepend(tmp_path)
        found, torch = gather_imports(['first_one', 'second_one'], PATIENCE_S)
        assert found['second_one'].alone is True
        assert torch is None
        findings = all_findings(replace(HEALTHY, imports=found))
        assert any('together with the others' in f.text for f in findings)

    def test_no_time_is_said_as_such(self):
        found, _ = gather_imports(['numpy'], 1e-6)
        assert found['numpy'].error == 'not imported in time'
        levels = [f.level for f in all_findings(replace(HEALTHY, imports=found))]
        assert Level.WARNING in levels
        assert Level.ERROR not in levels


class TestGatherers:
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

    @pytest.mark.parametrize('name', ['fastdds_loopback.xml', 'fastdds_camera.xml'])
    def test_our_profiles_are_understood(self, name):
        path = str(ROOT / 'config' / name)
        profile = gather.read_profile({'FASTRTPS_DEFAULT_PROFILES_FILE': path})
        assert profile.segment_bytes == 64 << 20
        assert profile.loopback_only == (name == 'fastdds_loopback.xml')
        assert not profile.error

    @pytest.mark.parametrize(
        'text',
        ['', '<a>', '<a xmlns="x"><segment_size>large</segment_size></a>'],
        ids=['empty', 'open', 'words'],
    )
    def test_bad_profile_is_an_error(self, tmp_path, text):
        path = tmp_path / 'profile.xml'
        path.write_text(text, 'utf-8')
        assert gather.read_profile({'FASTDDS_DEFAULT_PROFILES_FILE': str(path)}).error

    def test_missing_profile_is_an_error(self):
        assert gather.read_profile({'FASTDDS_DEFAULT_PROFILES_FILE': '/nowhere.xml'}).error
        assert not gather.read_profile({}).path

    @pytest.mark.parametrize(
        ('port', 'domain_id'),
        [(7410, 0), (7412, 0), (7411, None), (7400, None), (9160, 7), (32660, 101), (53, None)],
    )
    def test_discovery_ports(self, port, domain_id):
        assert gather.domain_of(port) == domain_id

    def test_participants_are_counted_by_user(self):
        row = '{n}: 00000000:{port:04X} 00000000:0000 07 0:0 00:0 0 {user} 0 {inode} 2 0 0'
        rows = [row.format(n=k, port=9160 + 2 * k, user=1000 + k, inode=0) for k in range(2)]
        found = list(gather.participants('\n'.join(['header', *rows])))
        assert [(p.domain_id, p.user) for p in found] == [(7, 1000), (7, 1001)]

    def test_disk_of_a_folder_to_come(self, tmp_path):
        total_bytes, free_bytes = gather.disk_bytes(tmp_path / 'a' / 'b')
        assert 0 < free_bytes <= total_bytes


class TestVerb:
    def doctor(self, *words, **environment):
        """Run the verb without site-packages: nothing but Python and this package."""
        program = (
            f'import sys; sys.path.insert(0, {str(ROOT)!r}); '
            'from td3_agent.__main__ import main; main(["doctor", *sys.argv[1:]])'
        )
        return subprocess.run(
            [sys.executable, '-I', '-S', '-c', program, *words],
            env={'PATH': '/usr/bin:/bin'} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_starts_without_ros_and_says_so(self):
        done = self.doctor('--json', '--live', '--patience', str(PATIENCE_S))
        assert done.returncode == 1, done.stderr
        report = json.loads(done.stdout)
        errors = {(f['check'], f['text']) for f in report['findings'] if f['level'] == 'error'}
        assert ('imports', 'rclpy is not installed') in errors
        assert any(check == 'live' for check, _ in errors)
        assert report['counts']['error'] == len(errors)

    def test_one_line_per_finding_the_worst_last(self):
        done = self.doctor('--patience', str(PATIENCE_S))
        *lines, summary = done.stdout.splitlines()
        order = [[level.name.lower() for level in Level].index(line.split()[0]) for line in lines]
        assert order == sorted(order)
        assert summary.startswith(f'{order.count(0)} ok')

    @pytest.mark.parametrize(
        ('words', 'text'),
        [
            (('--camera', '5'), "camera must be WIDTHxHEIGHT [px], as 800x600, got '5'"),
            (('--seconds', '0'), 'seconds must be in (0, 600] [s], got 0.0'),
            (('--patience', 'nan'), 'patience must be in (0, 600] [s], got nan'),
        ],
    )
    def test_refusals_are_one_sentence(self, words, text, capsys):
        with pytest.raises(SystemExit) as end:
            main(['doctor', *words])
        assert end.value.code == 2
        assert capsys.readouterr().err == f'td3_agent doctor: {text}\n'
