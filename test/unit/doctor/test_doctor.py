# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The doctor finds what is planted, is silent where nothing is, and starts without ROS 2."""

from dataclasses import asdict, fields, replace
import json
import os
from pathlib import Path
import subprocess
import sys

from harness.healthy import APT, HEALTHY, HEALTHY_GRAPH, SITE
from planted_faults import PLANTED, finding_of, findings_of
import pytest

from td3_agent.__main__ import main
from td3_agent.doctor import gather
from td3_agent.doctor.command import camera_size, is_bad, live_findings
from td3_agent.doctor.facts import (
    CARLA_MSGS_HASHES,
    Copy,
    Diagnosis,
    Import,
    Level,
    Machine,
    Torch,
    distros_for_carla,
    judged,
)
from td3_agent.doctor.graph_checks import GRAPH_CHECKS, Graph
from td3_agent.doctor.machine_checks import MACHINE_CHECKS
from td3_agent.fastdds import Profile

ROOT = Path(__file__).parents[3]
CHECKS = {**MACHINE_CHECKS, **GRAPH_CHECKS}
PATIENCE_S = 60.0  # of a busy machine
NO_PROFILE, NO_SERVER = '800x600 images, no Fast DDS profile', 'discovery server that does not run'
CYCLONE = {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}
LOCALHOST = {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def planted(what):
    """The patient of a planted fault."""
    return next(patients[what] for patients in PLANTED.values() if what in patients)


def raised(machine, check):
    """What a check has to say of a machine, other than that all is well."""
    return [f for f in findings_of(machine) if f.check == check and f.level > Level.OK]


def with_environment(**changes):
    return replace(HEALTHY, environment=HEALTHY.environment | changes)


class TestPlanted:
    def test_each_is_found_with_a_fix(self):
        found = [
            finding_of(what, patient, *key)
            for key, patients in PLANTED.items()
            for what, patient in patients.items()
        ]
        assert [f.line() for f in found if not (f.fix or f.level is Level.NOTE)] == []
        assert all(len(f.line().splitlines()) == 1 for f in found)

    @pytest.mark.parametrize('healthy', [HEALTHY, HEALTHY_GRAPH])
    def test_health_is_silent(self, healthy):
        assert [f.line() for f in findings_of(healthy) if f.level > Level.OK] == []

    @pytest.mark.parametrize('name', CHECKS)
    def test_every_check_has_a_fault_of_its_own(self, name):
        rows = [rows for (by, _), rows in PLANTED.items() if by == name]
        patients = [patient for row in rows for patient in row.values()]
        found = [f for patient in patients for f in judged({name: CHECKS[name]}, patient)]
        assert any(f.level > Level.OK for f in found)

    def test_a_fault_that_is_not_found_is_named(self):
        with pytest.raises(ValueError, match=r'Python 3\.8: not found by python'):
            finding_of('Python 3.8', HEALTHY, 'python', Level.ERROR)


class TestPureChecks:
    def test_nothing_known_is_no_crash(self):
        assert findings_of(Machine(python=(3, 12), executable='python'))
        assert findings_of(Graph(domain_id=0))

    @pytest.mark.parametrize('field', [f.name for f in fields(Machine) if f.default is not None])
    def test_each_fact_may_be_missing(self, field):
        empty = Machine(python=(3, 12), executable='')
        assert findings_of(replace(HEALTHY, **{field: getattr(empty, field)}))

    def test_a_larger_segment_than_the_image_is_not_enough_for_several(self):
        profile = replace(HEALTHY.profile, segment_bytes=4 << 20)
        found = findings_of(replace(HEALTHY, camera_px=(800, 600), profile=profile))
        assert 'segment_size of at least 7680000' in next(f.fix for f in found if f.check == 'shm')

    def test_suggested_domain_is_free(self):
        patient = planted('another user in our domain')
        others = tuple(replace(patient.participants[0], domain_id=k) for k in (1, 2, 7))
        found = findings_of(replace(patient, participants=others))
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

    def test_without_its_middleware_rclpy_is_not_blamed(self):
        ended = Import(error='the import ended the program with 102', alone=False)
        machine = with_environment(RMW_IMPLEMENTATION='rmw_cyclonedds_cpp')
        machine = replace(machine, imports=HEALTHY.imports | {'rclpy': ended})
        assert not raised(machine, 'imports')
        none = Import(error='no', missing=True)
        missing = replace(machine, imports=HEALTHY.imports | {'rclpy': none})
        assert raised(missing, 'imports')

    def test_apt_is_named_only_where_ros_is_from_apt(self):
        machine = with_environment(RMW_IMPLEMENTATION='rmw_cyclonedds_cpp')
        assert 'apt install ros-jazzy-rmw-cyclonedds-cpp' in raised(machine, 'rmw')[0].fix
        wheel = Import('', '/venv/lib/python3.12/site-packages/rclpy')
        machine = replace(machine, imports=HEALTHY.imports | {'rclpy': wheel})
        assert raised(machine, 'rmw')[0].fix == 'unset RMW_IMPLEMENTATION'

    @pytest.mark.parametrize(
        ('what', 'check', 'changes', 'environment', 'level'),
        [
            ('', 'discovery', {}, {'ROS_LOCALHOST_ONLY': '0'}, None),
            ('', 'discovery', {}, {'ROS_LOCALHOST_ONLY': '1'}, Level.WARNING),
            (NO_PROFILE, 'shm', {}, {'RMW_IMPLEMENTATION': ''}, Level.ERROR),
            # On WSL no driver is in /proc.
            ('', 'torch', {'torch': Torch('12.8', cuda_runs=True)}, {}, None),
            (NO_SERVER, 'discovery', {'udp_ports': (53, 11811)}, {}, Level.WARNING),
            (NO_SERVER, 'discovery', {}, CYCLONE, None),
            ('no transports', 'discovery', {}, CYCLONE, None),
            # The middleware adds shared memory by itself where it is to stay on this machine.
            ('profile without shared memory', 'shm', {}, LOCALHOST, None),
            ('another user in our domain', 'domain', {'user': 0}, {}, Level.WARNING),
        ],
    )
    def test_what_changes_a_verdict(self, what, check, changes, environment, level):
        patient = planted(what) if what else HEALTHY
        patient = replace(patient, environment=patient.environment | environment, **changes)
        assert [found.level for found in raised(patient, check)] == [level] * (level is not None)

    @pytest.mark.parametrize('version', ['dev', '', '1.26.4', 'v2'])
    def test_numpy_of_any_version_is_judged(self, version):
        numpy = replace(HEALTHY.imports['numpy'], version=version)
        assert not raised(replace(HEALTHY, imports=HEALTHY.imports | {'numpy': numpy}), 'numpy')

    def test_small_segment_of_a_profile_is_mended_in_the_profile(self):
        large = replace(HEALTHY, camera_px=(4096, 4096))
        assert f'in {HEALTHY.profile.path}' in raised(large, 'shm')[0].fix
        unused = replace(large, profile=Profile('/own.xml', is_default=False))
        assert 'fastdds_camera.xml' in raised(unused, 'shm')[0].fix

    def test_graph_without_roles_is_not_blamed_for_them(self):
        graph = Graph(domain_id=7, nodes=('/a',), role_name='hero')
        assert not any(f.check == 'endpoints' for f in findings_of(graph))

    def test_right_role_of_several_is_fine(self):
        odometry = HEALTHY_GRAPH.topics['/carla/ego_vehicle/odometry']
        topics = HEALTHY_GRAPH.topics | {'/carla/hero/odometry': odometry}
        graph = replace(HEALTHY_GRAPH, topics=topics)
        assert not any(f.check == 'endpoints' for f in findings_of(graph))

    @pytest.mark.parametrize(
        ('levels', 'plain', 'strict'),
        [([], False, False), ([0, 1], False, False), ([2], False, True), ([1, 3], True, True)],
    )
    def test_exit_follows_the_worst(self, levels, plain, strict):
        findings = [Diagnosis(Level(level), 'x', 'y') for level in levels]
        assert is_bad(findings, strict=False) == plain
        assert is_bad(findings, strict=True) == strict

    @pytest.mark.parametrize('text', ['', '800', '0x600', '800x', 'x', '-1x5', '8.5x6'])
    def test_camera_size_is_refused(self, text):
        with pytest.raises(
            ValueError, match=r'camera must be WIDTHxHEIGHT \[px\], such as 800x600'
        ):
            camera_size(text)


class TestFixes:
    """What the fixes name is what pip and apt call it, and is there."""

    def fix(self, module, error, **changes):
        imports = HEALTHY.imports | {module: Import(error=error, alone=False)}
        (finding,) = raised(replace(HEALTHY, imports=imports, **changes), 'imports')
        return finding.fix

    @pytest.mark.parametrize(
        ('module', 'package'),
        [
            ('cv2', 'opencv-python'),
            ('google.protobuf', 'protobuf'),
            ('yaml', 'pyyaml'),
            ('carla', 'carla'),
            ('numpy', 'numpy'),
        ],
    )
    def test_pip_gets_its_own_name_and_version(self, module, package):
        copies = (Copy(package, '1.2.3', '/venv/site-packages'),)
        wanted = f'pip install --force-reinstall --no-deps {package}==1.2.3'
        assert self.fix(module, 'ImportError: broken', copies=copies) == wanted

    def test_pytorch_comes_from_the_index_of_its_build(self):
        fix = self.fix('torch', 'OSError: x', copies=(Copy('torch', '2.13.0+cpu', '/venv'),))
        assert fix.endswith(
            'torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu'
        )

    @pytest.mark.parametrize('module', ['rclpy', 'geometry_msgs.msg', 'carla_msgs.msg'])
    @pytest.mark.parametrize(
        'error',
        ['ImportError: x', 'ImportError: undefined symbol: x', 'the import was ended by signal 6'],
    )
    def test_ros_never_comes_from_pip(self, module, error):
        fix = self.fix(module, error)
        assert 'pip' not in fix
        assert 'source' in fix

    @pytest.mark.parametrize('lacking', ['rpyutils', 'rosidl_parser', 'std_msgs.msg'])
    def test_nor_does_what_it_needs(self, lacking):
        assert 'pip' not in self.fix('rclpy', f"No module named '{lacking}'")

    def test_second_ros_is_not_uninstalled(self):
        (finding,) = raised(planted('one ROS 2 hides the rclpy of another'), 'copies')
        assert 'pip' not in finding.fix
        (hidden,) = raised(
            replace(HEALTHY, copies=(Copy('scipy', '1.8.0', APT), Copy('scipy', '1.9.0', SITE))),
            'copies',
        )
        assert 'pip' not in hidden.fix  # which would refuse to touch what is apt's

    @pytest.mark.parametrize(
        ('what', 'words'),
        [
            ('best-effort camera, reliable reader', 'camera_reliability:=best_effort'),
            ('best-effort odometry, reliable reader', 'give both ends the same reliability'),
            ('volatile route, transient local reader', 'give both ends the same durability'),
            (
                'ros2 topic pub of the manual override (volatile)',
                'ros2 topic pub --qos-durability transient_local',
            ),
        ],
    )
    def test_mismatch_is_mended_where_it_is_made(self, what, words):
        (finding,) = [f for f in findings_of(planted(what)) if f.check == 'qos']
        assert words in finding.fix

    def test_camera_of_another_reader_is_not_the_agents(self):
        patient = planted('best-effort camera, reliable reader')
        name = '/carla/ego_vehicle/camera/image'
        topic = patient.topics[name]
        others = tuple(replace(reader, node='/recorder') for reader in topic.subscriptions)
        topics = patient.topics | {name: replace(topic, subscriptions=others)}
        (finding,) = [f for f in findings_of(replace(patient, topics=topics)) if f.fix]
        assert finding.fix == 'give both ends the same reliability'

    @pytest.mark.parametrize(
        ('segment_mib', 'size'), [(64, '512m'), (256, '1024m'), (500, '2048m'), (512, '2048m')]
    )
    def test_container_gets_what_is_needed(self, segment_mib, size):
        profile = replace(HEALTHY.profile, segment_bytes=segment_mib << 20)
        (finding,) = raised(replace(HEALTHY, profile=profile, shm_total_bytes=64 << 20), 'shm')
        assert f'--shm-size={size} ' in finding.fix

    def test_clash_is_mended_by_versions_that_fit(self):
        """Those that are here, installed again, would clash again."""
        wheels = HEALTHY.imports | {'rclpy': Import('', '/venv/lib/site-packages/rclpy')}
        headless = Copy('opencv-python-headless', '4.9', SITE)
        for error in ('numpy.core.multiarray failed', "No module named 'numpy._core'"):
            fix = self.fix('cv2', error, copies=(headless,))
            wanted = 'pip install --force-reinstall opencv-python-headless'
            assert fix == f"{wanted} 'numpy<2'"
            imports = wheels | {'cv2': Import(error=error, alone=False)}
            (finding,) = raised(replace(HEALTHY, imports=imports, copies=(headless,)), 'imports')
            assert finding.fix == f'{wanted} numpy'

    def test_signal_is_no_proof(self):
        assert 'often, but not always' in self.fix('torch', 'the import was ended by signal 11')
        assert 'HOME' not in self.fix('carla', 'the import was ended by signal 11')

    def test_carla_needs_a_home(self):
        (finding,) = raised(planted('HOME unset, CARLA crashes'), 'imports')
        assert 'export HOME=' in finding.fix

    def test_paths_are_there_from_any_folder(self):
        checkout, config = gather.package_folders()
        assert (Path(checkout) / 'env.sh').is_absolute()
        machine = replace(HEALTHY, checkout=checkout, config=config, profile=Profile())
        machine = replace(
            machine,
            environment={'ROS_DISTRO': 'jazzy'},
            camera_px=(800, 600),
            imports={
                'carla_msgs.msg': Import(missing=True, error='no'),
                'yaml': Import(missing=True, error='no'),
            },
        )
        fixes = [f.fix for f in findings_of(machine)]
        paths = {
            word.rstrip(',;')
            for fix in fixes
            for word in fix.replace('=', ' ').split()
            if str(ROOT) in word
        }
        names = ('env.sh', 'config/fastdds_camera.xml', 'interfaces/carla_msgs', '')
        assert paths == {str(ROOT / name) for name in names}
        assert all(Path(path).exists() for path in paths)

    def test_without_sources_none_are_named(self):
        imports = {name: Import(missing=True, error='no') for name in HEALTHY.imports}
        machine = replace(HEALTHY, checkout='', imports=imports, environment={})
        fixes = ' '.join(f.fix for f in findings_of(machine))
        assert 'env.sh' not in fixes
        assert '--paths' not in fixes
        assert 'ros-carla-msgs' in fixes


class Look:
    """A look at a graph that has ended."""

    patience_s = 1.0

    def __init__(self, *answers):
        self._answers = answers

    def wait(self):
        return 'ended the program with 0'

    def answers(self):
        return list(self._answers)


class TestLive:
    def test_findings_come_back_as_they_were(self):
        found = findings_of(planted('two agents of one name'))
        row = json.loads(json.dumps({'findings': [asdict(f) for f in found]}))
        assert live_findings(Look(row), HEALTHY, []) == found

    @pytest.mark.parametrize('check', ['rmw', 'domain'])
    def test_what_keeps_every_node_from_starting_is_said_once(self, check):
        first = [Diagnosis(Level.ERROR, check, 'x')]
        (finding,) = live_findings(Look({'error': 'confusing'}), HEALTHY, first)
        assert finding.level is Level.WARNING
        assert finding.fix == f'mend {check} first'
        warned = [Diagnosis(Level.WARNING, check, 'x')]
        assert live_findings(Look({'error': 'e'}), HEALTHY, warned)[0].level is Level.ERROR

    def test_fix_of_a_look_that_failed_follows_rclpy(self):
        found = live_findings(Look({'error': 'RCLError: Unable to resolve peer'}), HEALTHY, [])
        assert 'Unable to resolve peer' in found[0].text
        assert 'imports' not in found[0].fix
        broken = replace(HEALTHY, imports={'rclpy': Import(error='x')})
        assert 'imports' in live_findings(Look({'error': 'x'}), broken, [])[0].fix


class TestSubcommand:
    def doctor(self, *words, **environment):
        """Run the subcommand without site-packages: nothing but Python and this package."""
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

    def test_folder_for_results_that_cannot_be_is_a_finding(self, tmp_path):
        (tmp_path / 'file').touch()
        for out in (tmp_path / 'file' / 'results', tmp_path / ('a' * 300)):
            done = self.doctor('--json', '--out', str(out), '--patience', str(PATIENCE_S))
            assert done.returncode == 1, done.stderr
            (disk,) = [f for f in json.loads(done.stdout)['findings'] if f['check'] == 'disk']
            assert disk['level'] == 'error'
            assert str(out) in disk['text']

    def test_one_line_per_finding_the_worst_last(self):
        done = self.doctor('--patience', str(PATIENCE_S))
        *lines, summary = done.stdout.splitlines()
        order = [[level.name.lower() for level in Level].index(line.split()[0]) for line in lines]
        assert order == sorted(order)
        assert summary.startswith(f'{order.count(0)} ok')

    @pytest.mark.parametrize(
        ('words', 'text'),
        [
            (('--camera', '5'), "camera must be WIDTHxHEIGHT [px], such as 800x600, got '5'"),
            (('--seconds', '0'), 'seconds must be in (0, 600] [s], got 0.0'),
            (('--patience', 'nan'), 'patience must be in (0, 600] [s], got nan'),
        ],
    )
    def test_refusals_are_one_sentence(self, words, text, capsys):
        with pytest.raises(SystemExit) as end:
            main(['doctor', *words])
        assert end.value.code == 2
        assert capsys.readouterr().err == f'td3_agent doctor: {text}\n'
