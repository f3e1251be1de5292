# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The message definitions are those of carla_msgs 1.3.0, to the last field."""

import hashlib
import importlib
import json
import os
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / 'interfaces' / 'carla_msgs'
# Definition; beginning of the SHA-256 of its lines without comments, constants included; beginning
# of its type hash. Two nodes hear each other only if type hashes agree (REP 2011): these are of a
# build of the upstream package, and also hold where that one is installed.
TABLE = """
msg/CarlaActorInfo.msg a538ad7a20605cfa 2ca0a6e2b412f1ff
msg/CarlaActorList.msg ee5bb869f6b2761f 9c84c0e4b7513532
msg/CarlaBoundingBox.msg 5faa43f097655f89 64150a58baddf4ec
msg/CarlaCollisionEvent.msg 6ec7145bdfe32df1 d77acb472c5effb9
msg/CarlaControl.msg 3c334eda897b5a6b 7053e4e9ec21223b
msg/CarlaEgoVehicleControl.msg 0f8fcb6a42717fbb 4f251fa2a554e8ed
msg/CarlaEgoVehicleInfo.msg d667e92ecbd02249 b8dc3866014924ce
msg/CarlaEgoVehicleInfoWheel.msg 40f55f6b58c72c95 63caae9f2637752b
msg/CarlaEgoVehicleStatus.msg 292ebb5b37fad704 3565cc74470f5c37
msg/CarlaLaneInvasionEvent.msg e34377964bbb5852 ec4d0e28a97c4a79
msg/CarlaStatus.msg 96882564b710f133 a3f7fb6fc4b67384
msg/CarlaTrafficLightInfo.msg 3aa398665002718f c6bc358a736c0843
msg/CarlaTrafficLightInfoList.msg 211f7a4816941117 9a13ecb7abe8b5b5
msg/CarlaTrafficLightStatus.msg 2aa771a0a05811cf e4a58f6956c9d395
msg/CarlaTrafficLightStatusList.msg 842614366120bc02 07f3b9ec436d9925
msg/CarlaWalkerControl.msg da0362ea69a041a6 ccb5ec377b88a20b
msg/CarlaWeatherParameters.msg 01c1877c0bb98a0e 85e1bba9e8fc0f7b
msg/CarlaWorldInfo.msg 79e4cef14c771deb b7093c2a34078b68
srv/DestroyObject.srv 2af4c2ff3041f6c3 3fe49d1944036534
srv/GetBlueprints.srv f56fbc0f31cb573a c4c491497c882b60
srv/SpawnObject.srv 68af898eba520e45 ab9180018028fb47
"""
DEFINITIONS = {name: digests for name, *digests in map(str.split, TABLE.strip().splitlines())}


def digest_of(path):
    stripped = (line.split('#')[0].split() for line in path.read_text('utf-8').splitlines())
    text = '\n'.join(' '.join(words) for words in stripped if words)
    return hashlib.sha256(text.encode()).hexdigest()


def description_file(definition):
    relative = Path('share', 'carla_msgs', definition).with_suffix('.json')
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    found = [Path(prefix, relative) for prefix in prefixes if Path(prefix, relative).is_file()]
    if not found:
        pytest.skip('carla_msgs is not installed, or by a ROS 2 older than type hashes (Humble)')
    return found[0]


def test_every_definition_has_the_lines_of_upstream():
    paths = [*PACKAGE.glob('msg/*.msg'), *PACKAGE.glob('srv/*.srv')]
    found = {f'{path.parent.name}/{path.name}': digest_of(path)[:16] for path in paths}
    assert found == {name: digest for name, (digest, _) in DEFINITIONS.items()}


@pytest.mark.parametrize('definition', DEFINITIONS)
def test_type_hash_is_the_one_of_upstream(definition):
    rows = json.loads(description_file(definition).read_text('utf-8'))['type_hashes']
    hashes = {row['type_name']: row['hash_string'] for row in rows}
    name = definition.partition('.')[0]
    assert hashes[f'carla_msgs/{name}'].startswith(f'RIHS01_{DEFINITIONS[definition][1]}')


def test_every_type_support_was_generated():
    pytest.importorskip('carla_msgs.msg')
    description_file('msg/CarlaStatus.msg')
    supports = ('rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_introspection_c')
    for support in supports:
        importlib.import_module(f'carla_msgs.carla_msgs_s__{support}')
