# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Containers and manifests name what exists, and fit each other. Needs no Docker, no cluster.

Linters and schemas are "make check"; this is what they cannot know.
"""

from importlib.util import find_spec
from itertools import pairwise
import json
import os
from pathlib import Path
import re
import subprocess

import containers as images
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / 'docker').glob('*.Dockerfile'))
COMPOSE = yaml.safe_load((ROOT / 'docker' / 'compose.yaml').read_text('utf-8'))
COMPOSE_GPU = yaml.safe_load((ROOT / 'docker' / 'compose.gpu.yaml').read_text('utf-8'))
PAGE = (ROOT / 'docs' / 'containers.md').read_text('utf-8')
MANIFESTS = [
    document
    for path in sorted((ROOT / 'deploy').glob('*.yaml'))
    for document in yaml.safe_load_all(path.read_text('utf-8'))
]
OURS = ('td3_agent', 'td3_agent-sim', 'td3_agent-ray', 'carla_ros_bridge')
JOB_IMAGES = ('merged.Dockerfile',)
SIM_MODULES = ('td3_agent.nodes.sim_bridge_node', 'td3_agent.nodes.route_node')
AGENT = 'td3_agent.nodes.td3_agent_node'


def instructions(path):
    """Instructions of a Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r'^\s*#.*\n', '', path.read_text('utf-8'), flags=re.MULTILINE)
    text = re.sub(r'\\\n\s*', ' ', text)
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def stages(path):
    """Names of the stages of a Dockerfile."""
    return [
        arg.split()[-1] for word, arg in instructions(path) if word == 'FROM' and ' AS ' in arg
    ]


def sent():
    """What .dockerignore lets through to the builder."""
    lines = (ROOT / '.dockerignore').read_text('utf-8').splitlines()
    return [line[1:] for line in lines if line.startswith('!')]


def defaults(path):
    """Build arguments of a Dockerfile, with their defaults."""
    found = [arg.partition('=') for word, arg in instructions(path) if word == 'ARG']
    return {name: value for name, is_given, value in found if is_given}


def default_of(text):
    """A value of the compose file where no variable is set."""
    return re.sub(r'\$\{\w+:-([^}]*)\}', r'\1', text)


def pod_of(manifest):
    """What a manifest says of its pods; of itself, where it has none."""
    return manifest['spec'].get('template', {}).get('spec', manifest['spec'])


def containers():
    """Every container of every manifest, with the pod that it is in."""
    for manifest in MANIFESTS:
        pod = pod_of(manifest)
        for container in [*pod.get('initContainers', []), *pod.get('containers', [])]:
            yield pod, container


def drives():
    """Every profile and pod, with the words of its programs."""
    image_command = {'td3_agent-sim': [SIM_MODULES[0]]}
    for profile in ('embedded', 'carla', 'train'):
        services = [s for s in COMPOSE['services'].values() if profile in s['profiles']]
        yield profile, [s.get('command', image_command.get(s['image'], [])) for s in services]
    for manifest in MANIFESTS:
        pod = pod_of(manifest)
        found = [*pod.get('initContainers', []), *pod.get('containers', [])]
        yield manifest['metadata']['name'], [[*c['command'], *c.get('args', [])] for c in found]


def named(name):
    """The manifest of that name."""
    return next(m for m in MANIFESTS if m['metadata']['name'] == name)


def commands():
    """Every command of the compose file and the manifests, as (image, words)."""
    for service in COMPOSE['services'].values():
        if service['image'] in OURS and 'command' in service:
            yield service['image'], service['command']
    for _, container in containers():
        words = [*container['command'], *container.get('args', [])]
        yield container['image'].partition(':')[0], words


class TestDockerfiles:
    @pytest.mark.parametrize('path', DOCKERFILES, ids=lambda p: p.name)
    def test_copies_what_exists_and_ends_as_an_ordinary_user_with_a_health_check(self, path):
        found = instructions(path)
        for arg in (a for w, a in found if w == 'COPY' and not a.startswith('--from')):
            for source in arg.split()[:-1]:
                assert (ROOT / source).exists(), f'{path.name}: COPY {source}'
                assert source == '.' or any(f'{source}/'.startswith(f'{s}/') for s in sent())
        assert [arg for word, arg in found if word == 'USER'][-1] == '1000'  # all share /dev/shm
        assert found[-1][0] == 'CMD'
        checks = [arg for word, arg in found if word == 'HEALTHCHECK']
        assert len(checks) == sum(word == 'CMD' for word, _ in found)
        assert all((check == 'NONE') == (path.name in JOB_IMAGES) for check in checks)

    def test_a_change_of_the_code_rebuilds_the_last_layer_only(self):
        found = instructions(ROOT / 'docker' / 'agent.Dockerfile')
        for number, (word, arg) in enumerate(found):
            if (word, arg) == ('COPY', '. .'):
                rest = [w for w, _ in found[number + 1 :]]
                last = rest.index('FROM') if 'FROM' in rest else len(rest)
                assert not {'RUN', 'COPY', 'ADD'} & set(rest[:last])

    def test_requirements_of_the_image_are_those_of_the_workspace(self):
        def lines(name):
            text = (ROOT / 'requirements' / name).read_text('utf-8')
            return {line for line in text.splitlines() if line and not line.startswith('#')}

        assert lines('ros_runtime.in') < lines('ros_jazzy.in')
        left = lines('ros_jazzy.in') - lines('ros_runtime.in')
        words = ('ament', 'rosidl', 'colcon', 'cmake', 'ninja', 'empy', 'numpy')
        assert all(any(word in line for word in words) for line in left)


class TestCompose:
    def test_builds_name_stages_that_exist(self):
        for service in COMPOSE['services'].values():
            if 'build' in service:
                path = ROOT / service['build']['dockerfile']
                assert path in DOCKERFILES
                target = service['build'].get('target')
                assert target is None or target in stages(path)

    @pytest.mark.parametrize(
        ('profile', 'names'),
        [
            ('embedded', {'sim', 'agent', 'gate', 'synchronizer'}),
            ('carla', {'carla', 'bridge', 'objects', 'agent', 'gate', 'synchronizer', 'route'}),
            ('train', {'train'}),
        ],
    )
    def test_profiles(self, profile, names):
        services = COMPOSE['services'].items()
        assert {name for name, s in services if profile in s['profiles']} == names

    def test_dependencies_are_in_every_profile_of_who_needs_them(self):
        services = COMPOSE['services']
        for service in services.values():
            for name in service.get('depends_on', {}):
                assert set(service['profiles']) <= set(services[name]['profiles'])

    def test_nodes_share_network_memory_user_and_domain(self):
        nodes = [s for n, s in COMPOSE['services'].items() if s['image'] in OURS and n != 'train']
        for name in ('network_mode', 'ipc', 'user', 'environment'):
            assert all(node[name] == nodes[0][name] for node in nodes)
        assert (nodes[0]['network_mode'], nodes[0]['ipc']) == ('host', 'host')
        assert nodes[0]['environment']['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'

    def test_objects_are_there_when_the_last_of_them_publishes(self, tmp_path):
        vehicle = json.loads((ROOT / 'config' / 'objects.json').read_text('utf-8'))['objects'][0]
        _, entry_point, *check = COMPOSE['services']['objects']['healthcheck']['test']
        assert entry_point == '/entrypoint.sh'
        assert f'/carla/{vehicle["id"]}/{vehicle["sensors"][-1]["id"]} ' in check[-1]
        cli = tmp_path / 'ros2'
        for said, is_there in [('0', False), ('1', True), ('12', True)]:
            cli.write_text(f'#!/bin/sh\necho "Publisher count: {said}"\n')
            cli.chmod(0o755)
            path = f'{tmp_path}:{os.environ["PATH"]}'
            done = subprocess.run(check, check=False, env={'PATH': path})
            assert (done.returncode == 0) == is_there

    def test_build_arguments_are_those_of_the_dockerfile(self):
        for service in COMPOSE['services'].values():
            if 'build' in service:
                known = defaults(ROOT / service['build']['dockerfile'])
                for name, value in service['build']['args'].items():
                    assert default_of(value) == known[name], name

    def test_bridge_is_built_for_the_server(self):
        services = COMPOSE['services']
        args = services['bridge']['build']['args']
        assert set(args) == set(defaults(ROOT / 'docker' / 'bridge.Dockerfile'))
        assert services['carla']['image'] == f'carlasim/carla:{args["CARLA_VERSION"]}'

    def test_gpu_is_for_the_training_alone(self):
        (name, train), *others = COMPOSE_GPU['services'].items()
        assert (name, others) == ('train', [])
        before = COMPOSE['services']['train']
        assert train['image'] != before['image']
        urls = [default_of(s['build']['args']['TORCH_INDEX_URL']) for s in (before, train)]
        assert urls[0].endswith('/cpu')
        assert not urls[1]  # the index of pip itself
        (device,) = train['deploy']['resources']['reservations']['devices']
        assert device['capabilities'] == ['gpu']

    @pytest.mark.parametrize('name', ['compose.yaml', 'compose.gpu.yaml'])
    def test_variables_have_defaults_and_are_none_of_a_sourced_ros(self, name):
        text = (ROOT / 'docker' / name).read_text('utf-8')
        found = re.findall(r'\$\{([^}]*)\}', text)
        assert all(':-' in variable for variable in found)
        assert not any(variable.startswith(('ROS_DISTRO', 'ROS_VERSION')) for variable in found)


class TestManifests:
    def test_containers_run_unprivileged_with_requests_and_limits(self):
        for pod, container in containers():
            assert pod['securityContext']['runAsNonRoot']
            assert pod['securityContext']['runAsUser'] == 1000
            assert container['securityContext']['allowPrivilegeEscalation'] is False
            assert {'cpu', 'memory'} <= set(container['resources']['requests'])
            assert 'memory' in container['resources']['limits']

    def test_claims_and_volumes_exist(self):
        claims = {m['metadata']['name'] for m in MANIFESTS if m['kind'] == 'PersistentVolumeClaim'}
        for pod, container in containers():
            volumes = {volume['name']: volume for volume in pod['volumes']}
            for mount in container['volumeMounts']:
                volume = volumes[mount['name']]
                if 'persistentVolumeClaim' in volume:
                    assert volume['persistentVolumeClaim']['claimName'] in claims

    def test_containers_with_nodes_have_shared_memory(self):
        for pod, container in containers():
            words = ' '.join([*container['command'], *container.get('args', [])])
            if 'nodes' in words or '--transport=ros' in words:
                mounts = {mount['mountPath']: mount['name'] for mount in container['volumeMounts']}
                volume = next(v for v in pod['volumes'] if v['name'] == mounts['/dev/shm'])
                assert volume['emptyDir']['medium'] == 'Memory'

    def test_each_pod_of_the_evaluation_has_a_seed_and_a_folder_of_its_own(self):
        job = named('td3-agent-evaluation')
        assert job['spec']['completionMode'] == 'Indexed'
        assert job['spec']['completions'] >= 5
        args = pod_of(job)['containers'][0]['args']
        assert '--seed=$(JOB_COMPLETION_INDEX)' in args
        assert any(re.fullmatch(r'--out=.*\$\(JOB_COMPLETION_INDEX\)', arg) for arg in args)

    def test_what_the_drive_needs_are_sidecars_that_are_waited_for(self):
        oldest = re.search(r'KUBERNETES := (\d+)\.(\d+) ', (ROOT / 'Makefile').read_text('utf-8'))
        assert tuple(map(int, oldest.groups())) >= (1, 29)  # the first to have them on
        sidecars = pod_of(named('td3-agent-drive'))['initContainers']
        assert [sidecar['restartPolicy'] for sidecar in sidecars] == ['Always'] * 3
        nodes = [sidecar['startupProbe']['exec']['command'][-1] for sidecar in sidecars]
        assert nodes == ['/carla_ros_bridge', '/td3_agent', '/gate']

    def test_training_has_time_to_save(self):
        assert COMPOSE['services']['train']['stop_grace_period'] == '120s'
        for name in ('td3-agent-training', 'td3-agent-ray-learner'):
            assert pod_of(named(name))['terminationGracePeriodSeconds'] == 120

    def test_images_are_those_that_the_page_builds_and_pushes(self):
        version = re.search('<version>(.*)</version>', (ROOT / 'package.xml').read_text('utf-8'))
        wanted = {container['image'] for _, container in containers()}
        assert wanted == {f'{name}:{version[1]}' for name in OURS if name.startswith('td3_agent')}
        assert wanted <= set(re.findall(r'docker build .*-t (\S+)', PAGE))
        pushed = re.search(r'for image in (.*); do', PAGE)[1].split()
        assert {f'{name}:{version[1]}' for name in pushed} == wanted


class TestCommands:
    @pytest.mark.parametrize(
        ('image', 'words'), list(commands()), ids=lambda v: v if isinstance(v, str) else ''
    )
    def test_programs_files_and_parameters_exist(self, image, words):
        words = [word for text in words for word in str(text).split()]
        for before, word in pairwise(['', *words]):
            if before == '-m':
                assert find_spec(word) is not None, word
                assert word not in SIM_MODULES or image == 'td3_agent-sim'
            if word.startswith(('config/', 'docker/')):
                assert (ROOT / word).exists(), word
                assert word in sent() or word.startswith('config/'), word
            if word.startswith('config/') and '--params-file' in words:
                known = next(iter(yaml.safe_load((ROOT / word).read_text('utf-8')).values()))
                given = [w.partition(':=')[0] for b, w in pairwise(words) if b == '-p']
                assert set(given) <= set(known['ros__parameters']), words

    @pytest.mark.parametrize(('name', 'programs'), list(drives()), ids=lambda v: str(v)[:20])
    def test_an_agent_gets_its_route_from_exactly_one_program(self, name, programs):
        """Any agent: what it drives by is chosen when it is started."""
        text = (ROOT / 'config' / 'sim_bridge_node.yaml').read_text('utf-8')
        (values,) = yaml.safe_load(text).values()
        assert values['ros__parameters']['waypoints'] is True
        sources = [words for words in programs if set(SIM_MODULES) & set(words)]
        assert len(sources) == sum(AGENT in words for words in programs), name

    def test_subcommands_take_the_arguments(self):
        pytest.importorskip('tqdm')
        from td3_agent.__main__ import parser

        subcommands = []
        for _, words in commands():
            text = ' '.join(['', *map(str, words)]).replace('\\\n', ' ')
            text = re.sub(r'docker/train\.sh', 'td3_agent train --out', text)
            _, is_ours, ours = text.partition(' td3_agent ')
            if is_ours:
                numbers = ours.replace('$(JOB_COMPLETION_INDEX)', '3').split()
                subcommands.append(parser(numbers[0]).parse_args(numbers).subcommand)
        assert sorted(subcommands) == ['evaluate', 'train', 'train', 'train']

    def test_health_checks_name_nodes_that_exist(self):
        nodes = {'/carla_ros_bridge', '/td3_agent', '/gate', '/synchronizer', '/route'}
        for path in (ROOT / 'docker').iterdir():
            for name in re.findall(r'healthcheck\.py"?, "?(/\w+)', path.read_text('utf-8')):
                assert name in nodes


def test_entry_point_names_the_libraries_and_becomes_the_program(tmp_path):
    site = tmp_path / 'venv' / 'lib' / 'python3.12' / 'site-packages'
    for name in ('ros_rcl.libs', 'ros_rclpy.libs', 'numpy.libs'):
        (site / name).mkdir(parents=True)
    program = 'echo "$LD_LIBRARY_PATH $_ROS_WHEELS_BOOTSTRAP_COMPLETE $$"; exit 7'
    with subprocess.Popen(
        [ROOT / 'docker' / 'entrypoint.sh', 'bash', '-c', program],
        env={'VIRTUAL_ENV': str(tmp_path / 'venv'), 'PATH': os.environ['PATH']},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said, _ = process.communicate()
    libraries, complete, number = said.split()
    venv = tmp_path / 'venv' / 'lib'
    expected = ['/opt/carla_msgs/lib', venv, site / 'ros_rcl.libs', site / 'ros_rclpy.libs']
    assert libraries.split(':') == [str(path) for path in expected]
    assert complete == '1'
    assert int(number) == process.pid  # signals reach the program itself
    assert process.returncode == 7


@pytest.mark.parametrize('is_begun', [False, True])
def test_training_begins_or_goes_on_with_what_is_there(tmp_path, is_begun):
    from td3_agent.training.trainer import CONFIG

    out = tmp_path / 'lane'
    if is_begun:  # as a training leaves it that was killed before its first snapshot
        out.mkdir()
        (out / CONFIG).touch()
    program = tmp_path / 'python'
    program.write_text('#!/bin/sh\necho "$$" "$@"\n')
    program.chmod(0o755)
    with subprocess.Popen(
        [ROOT / 'docker' / 'train.sh', out, '--config', 'config/train_lane.yaml'],
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said, _ = process.communicate()
    number, *words = said.split()
    resume = ['--resume'] if is_begun else []
    given = ['--config', 'config/train_lane.yaml']
    assert words == ['-m', 'td3_agent', 'train', '--out', str(out), *resume, *given]
    assert int(number) == process.pid  # signals reach the training itself


class TestImages:
    """The program that builds and measures the images; it is run where there is buildah."""

    def test_names_the_stages_of_the_dockerfile_and_their_layers(self):
        path = ROOT / 'docker' / 'agent.Dockerfile'
        assert set(images.TARGETS) == set(OURS) - {'carla_ros_bridge'}
        assert set(images.TARGETS.values()) < set(stages(path))
        steps = [f'{word} {arg}' for word, arg in instructions(path) if word in {'RUN', 'COPY'}]
        names = {images.layer_name(step, 'other') for step in steps}
        wanted = {'ros_jazzy', 'ros_runtime', 'runtime', 'sim', 'ray', 'carla_msgs', 'code'}
        assert names == wanted | {'other'}

    def test_without_buildah_is_skipped_with_the_reason(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv('PATH', str(tmp_path))
        monkeypatch.setattr('sys.argv', ['containers.py', '--debian'])
        assert images.main() == 0
        assert 'skipped, no buildah debootstrap here' in capsys.readouterr().out
