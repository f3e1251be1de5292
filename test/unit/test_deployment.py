# SPDX-License-Identifier: Apache-2.0
"""Containers and manifests name what exists, and fit each other. Needs no Docker, no cluster.

Linters and schemas are "make check"; this is what they cannot know.
"""

from importlib.util import find_spec
from itertools import pairwise
import os
from pathlib import Path
import re
import subprocess

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / 'docker').glob('*.Dockerfile'))
COMPOSE = yaml.safe_load((ROOT / 'docker' / 'compose.yaml').read_text('utf-8'))
MANIFESTS = [
    document
    for path in sorted((ROOT / 'deploy').glob('*.yaml'))
    for document in yaml.safe_load_all(path.read_text('utf-8'))
]
OURS = ('td3_agent', 'td3_agent-sim', 'td3_agent-ray', 'carla_ros_bridge')
JOBS = ('train', 'objects')
SIM_MODULES = ('td3_agent.nodes.sim_bridge_node',)


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


def containers():
    """Every container of every manifest, with the pod that it is in."""
    for manifest in MANIFESTS:
        spec = manifest['spec']
        pod = spec.get('template', {}).get('spec', spec)
        for container in pod.get('containers', []):
            yield pod, container


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
    def test_what_is_copied_exists_and_is_not_ignored(self, path):
        ignored = (ROOT / '.dockerignore').read_text('utf-8').splitlines()
        sent = [line[1:] for line in ignored if line.startswith('!')]
        for word, arg in instructions(path):
            if word != 'COPY' or arg.startswith('--from'):
                continue
            for source in arg.split()[:-1]:
                assert (ROOT / source).exists(), f'{path.name}: COPY {source}'
                assert source == '.' or any(f'{source}/'.startswith(f'{s}/') for s in sent)

    @pytest.mark.parametrize('path', DOCKERFILES, ids=lambda p: p.name)
    def test_ends_as_an_ordinary_user_with_a_health_check(self, path):
        found = instructions(path)
        users = [arg for word, arg in found if word == 'USER']
        assert users[-1] == '1000'  # one user for all: they share /dev/shm
        assert found[-1][0] == 'CMD'
        assert any(word == 'HEALTHCHECK' for word, _ in found)

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

    def test_distro_of_the_image_is_the_pinned_one(self):
        text = (ROOT / 'docker' / 'agent.Dockerfile').read_text('utf-8')
        assert set(re.findall(r'ROS_DISTRO=(\w+)', text)) == {'jazzy'}
        assert 'ros-jazzy-rclpy' in (ROOT / 'requirements' / 'ros_jazzy.in').read_text('utf-8')


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
            ('carla', {'carla', 'bridge', 'objects', 'agent', 'gate', 'synchronizer'}),
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

    def test_jobs_alone_have_no_health_check(self):
        for name, service in COMPOSE['services'].items():
            check = service.get('healthcheck', {})
            assert bool(check.get('disable')) == (name in JOBS)

    def test_variables_have_defaults(self):
        text = (ROOT / 'docker' / 'compose.yaml').read_text('utf-8')
        assert all(':-' in name for name in re.findall(r'\$\{([^}]*)\}', text))


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
        job = next(m for m in MANIFESTS if m['metadata']['name'] == 'td3-agent-evaluation')
        assert job['spec']['completionMode'] == 'Indexed'
        assert job['spec']['completions'] >= 5
        args = job['spec']['template']['spec']['containers'][0]['args']
        assert '--seed=$(JOB_COMPLETION_INDEX)' in args
        assert any(re.fullmatch(r'--out=.*\$\(JOB_COMPLETION_INDEX\)', arg) for arg in args)

    def test_images_are_those_that_the_dockerfiles_make(self):
        for _, container in containers():
            name, _, version = container['image'].partition(':')
            assert name in OURS
            assert version == '0.1.0'


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
            if word.startswith('config/') and '--params-file' in words:
                known = next(iter(yaml.safe_load((ROOT / word).read_text('utf-8')).values()))
                given = [w.partition(':=')[0] for b, w in pairwise(words) if b == '-p']
                assert set(given) <= set(known['ros__parameters']), words

    def test_verbs_take_the_arguments(self):
        pytest.importorskip('tqdm')
        from td3_agent.__main__ import parser

        for _, words in commands():
            text = [str(word) for word in words]
            if 'td3_agent' in text:
                verb = text[text.index('td3_agent') + 1 :]
                numbers = [word.replace('$(JOB_COMPLETION_INDEX)', '3') for word in verb]
                assert parser(verb[0]).parse_args(numbers).verb == verb[0]

    def test_health_checks_name_nodes_that_exist(self):
        nodes = {'/carla_ros_bridge', '/td3_agent', '/twist_to_control', '/synchronizer'}
        for path in (ROOT / 'docker').iterdir():
            for name in re.findall(r'healthcheck\.py"?, "?(/\w+)', path.read_text('utf-8')):
                assert name in nodes
        for _, container in containers():
            if 'readinessProbe' in container:
                assert container['readinessProbe']['exec']['command'][-1] in nodes


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
