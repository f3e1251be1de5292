# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Installs td3_agent as a ROS 2 package; colcon calls it."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = 'td3_agent'
HERE = Path(__file__).resolve().parent  # colcon links to this file
URL = 'https://github.com/td3-agent-maintainers/td3_agent'
SHARED_FOLDERS = ('launch', 'config', 'security')
EXTRAS = ('bench', 'dev', 'onnx', 'ray', 'sim', 'watch')


def shared_files() -> list[tuple[str, list[str]]]:
    """List what goes to ``share/td3_agent``, folder by folder, subfolders included."""
    files = [
        path
        for name in SHARED_FOLDERS
        for path in sorted((HERE / name).rglob('*'))
        if path.is_file() and '__pycache__' not in path.parts
    ]
    relative = [path.relative_to(HERE) for path in files]
    return [(f'share/{NAME}/{path.parent}', [str(path)]) for path in relative]


def requirements(name: str) -> list[str]:
    """Read ``requirements/<name>.in``, where each dependency is named once."""
    path = HERE / 'requirements' / f'{name}.in'
    lines = path.read_text('utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


setup(
    name=NAME,
    version='0.1.0',
    description='Drives a CARLA vehicle over ROS 2 with a TD3 policy, in lockstep.',
    long_description=(HERE / 'README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    author='td3_agent authors',
    maintainer='td3_agent maintainers',
    maintainer_email='td3-agent-maintainers@users.noreply.github.com',
    url=URL,
    project_urls={
        'Documentation': f'{URL}/tree/main/docs',
        'Source': URL,
        'Issues': f'{URL}/issues',
        'Changelog': f'{URL}/blob/main/CHANGELOG.rst',
    },
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'bags/*.html', 'weights/*.safetensors']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *shared_files(),
    ],
    python_requires='>=3.10, <3.13',
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name) for name in EXTRAS},
    zip_safe=False,
    entry_points={
        'console_scripts': [
            f'{name} = {NAME}.programs:{name}'
            for name in (
                NAME,
                'route_node',
                'sim_bridge_node',
                'synchronizer_node',
                'td3_agent_node',
                'gate_node',
                'composed_node',
            )
        ],
        # Gymnasium before 1.0 calls this by itself; later ones want td3_agent.envs imported.
        'gymnasium.envs': [f'{NAME} = {NAME}.envs:register'],
    },
)
