# SPDX-License-Identifier: Apache-2.0
"""Installs td3_agent as a ROS 2 package; colcon calls it."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = 'td3_agent'
SHARED_FOLDERS = ('launch', 'config', 'security')


def shared_files() -> list[tuple[str, list[str]]]:
    """List what goes to ``share/td3_agent``, folder by folder, subfolders included."""
    here = Path(__file__).resolve().parent
    files = [
        path
        for name in SHARED_FOLDERS
        for path in sorted((here / name).rglob('*'))
        if path.is_file() and '__pycache__' not in path.parts
    ]
    relative = [path.relative_to(here) for path in files]
    return [(f'share/{NAME}/{path.parent}', [str(path)]) for path in relative]


setup(
    name=NAME,
    version='0.1.0',
    description='Drives a CARLA vehicle through the CARLA ROS bridge with a TD3 policy.',
    maintainer='td3_agent maintainers',
    maintainer_email='td3-agent-maintainers@users.noreply.github.com',
    license='Apache-2.0',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'bags/*.html', 'weights/*.safetensors']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *shared_files(),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools'],
    extras_require={
        'bench': ['gymnasium[mujoco]', 'stable-baselines3'],
        'logs': ['tensorboard'],
        'onnx': ['onnx', 'onnxruntime'],
        'ray': ['pandas', 'pyarrow', 'pydantic', 'ray==2.55.1'],
        'sim': [
            'carla==0.9.16',
            'commonroad-vehicle-models',
            'gymnasium',
            'matplotlib',
            'opencv-python-headless',
            'rosbags',
            'scenariogeneration',
            'scipy',
            'tqdm',
        ],
        'watch': ['rerun-sdk'],
        'dev': ['mypy', 'ruff', 'types-PyYAML', 'types-tqdm'],
        'test': [
            'hypothesis',
            'psutil',
            'pytest',
            'pytest-repeat',
            'pytest-rerunfailures',
            'pytest-xdist',
            'tensorboard',
        ],
    },
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
                'twist_to_control_node',
            )
        ],
        # Gymnasium before 1.0 calls this by itself; later ones want td3_agent.envs imported.
        'gymnasium.envs': [f'{NAME} = {NAME}.envs:register'],
    },
)
