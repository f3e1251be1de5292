# SPDX-License-Identifier: Apache-2.0
"""The message definitions are those of carla_msgs 1.3.0, to the last field."""

import importlib
import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'interfaces' / 'carla_msgs'

# What each definition says, in order: a constant has a value, the two halves of a service are
# parted by three dashes.
DEFINITIONS = {
    'msg/CarlaActorInfo.msg': [
        'uint32 id',
        'uint32 parent_id',
        'string type',
        'string rolename',
    ],
    'msg/CarlaActorList.msg': [
        'CarlaActorInfo[] actors',
    ],
    'msg/CarlaBoundingBox.msg': [
        'geometry_msgs/Vector3 center',
        'geometry_msgs/Vector3 size',
    ],
    'msg/CarlaCollisionEvent.msg': [
        'std_msgs/Header header',
        'uint32 other_actor_id',
        'geometry_msgs/Vector3 normal_impulse',
    ],
    'msg/CarlaControl.msg': [
        'int8 PLAY=0',
        'int8 PAUSE=1',
        'int8 STEP_ONCE=2',
        'int8 command',
    ],
    'msg/CarlaEgoVehicleControl.msg': [
        'std_msgs/Header header',
        'float32 throttle',
        'float32 steer',
        'float32 brake',
        'bool hand_brake',
        'bool reverse',
        'int32 gear',
        'bool manual_gear_shift',
    ],
    'msg/CarlaEgoVehicleInfo.msg': [
        'uint32 id',
        'string type',
        'string rolename',
        'CarlaEgoVehicleInfoWheel[] wheels',
        'float32 max_rpm',
        'float32 moi',
        'float32 damping_rate_full_throttle',
        'float32 damping_rate_zero_throttle_clutch_engaged',
        'float32 damping_rate_zero_throttle_clutch_disengaged',
        'bool use_gear_autobox',
        'float32 gear_switch_time',
        'float32 clutch_strength',
        'float32 mass',
        'float32 drag_coefficient',
        'geometry_msgs/Vector3 center_of_mass',
    ],
    'msg/CarlaEgoVehicleInfoWheel.msg': [
        'float32 tire_friction',
        'float32 damping_rate',
        'float32 max_steer_angle',
        'float32 radius',
        'float32 max_brake_torque',
        'float32 max_handbrake_torque',
        'geometry_msgs/Vector3 position',
    ],
    'msg/CarlaEgoVehicleStatus.msg': [
        'std_msgs/Header header',
        'float32 velocity',
        'geometry_msgs/Accel acceleration',
        'geometry_msgs/Quaternion orientation',
        'CarlaEgoVehicleControl control',
    ],
    'msg/CarlaLaneInvasionEvent.msg': [
        'std_msgs/Header header',
        'int32[] crossed_lane_markings',
        'int32 LANE_MARKING_OTHER=0',
        'int32 LANE_MARKING_BROKEN=1',
        'int32 LANE_MARKING_SOLID=2',
    ],
    'msg/CarlaStatus.msg': [
        'uint64 frame',
        'float32 fixed_delta_seconds',
        'bool synchronous_mode',
        'bool synchronous_mode_running',
    ],
    'msg/CarlaTrafficLightInfo.msg': [
        'uint32 id',
        'geometry_msgs/Pose transform',
        'CarlaBoundingBox trigger_volume',
    ],
    'msg/CarlaTrafficLightInfoList.msg': [
        'CarlaTrafficLightInfo[] traffic_lights',
    ],
    'msg/CarlaTrafficLightStatus.msg': [
        'uint32 id',
        'uint8 RED=0',
        'uint8 YELLOW=1',
        'uint8 GREEN=2',
        'uint8 OFF=3',
        'uint8 UNKNOWN=4',
        'uint8 state',
    ],
    'msg/CarlaTrafficLightStatusList.msg': [
        'CarlaTrafficLightStatus[] traffic_lights',
    ],
    'msg/CarlaWalkerControl.msg': [
        'geometry_msgs/Vector3 direction',
        'float32 speed',
        'bool jump',
    ],
    'msg/CarlaWeatherParameters.msg': [
        'float32 cloudiness',
        'float32 precipitation',
        'float32 precipitation_deposits',
        'float32 wind_intensity',
        'float32 fog_density',
        'float32 fog_distance',
        'float32 wetness',
        'float32 sun_azimuth_angle',
        'float32 sun_altitude_angle',
    ],
    'msg/CarlaWorldInfo.msg': [
        'string map_name',
        'string opendrive',
    ],
    'srv/DestroyObject.srv': [
        'int32 id',
        '---',
        'bool success',
    ],
    'srv/GetBlueprints.srv': [
        'string filter',
        '---',
        'string[] blueprints',
    ],
    'srv/SpawnObject.srv': [
        'string type',
        'string id',
        'diagnostic_msgs/KeyValue[] attributes',
        'geometry_msgs/Pose transform',
        'uint32 attach_to',
        'bool random_pose',
        '---',
        'int32 id',
        'string error_string',
    ],
}

# Two nodes hear each other only if these agree (REP 2011). Taken from a build of the upstream
# package; hence they also hold where that one is installed.
HASH_TABLE = """
msg/CarlaActorInfo 2ca0a6e2b412f1ffeea438bde6683b1be0e46c52925ac45a6fe91f8cb3c4371c
msg/CarlaActorList 9c84c0e4b7513532a2943a25c75d4a139d48f31288f5a2b68c289f1e0a0b1be1
msg/CarlaBoundingBox 64150a58baddf4ecdfd2adcc41b74bc2a7caaa1677545e971b47623ca1c31b63
msg/CarlaCollisionEvent d77acb472c5effb98998bfb2e176ae3ffac0a84ce33a79f90e999544e3fcfeff
msg/CarlaControl 7053e4e9ec21223b8f3a67944cc19fac0e419791a87e59438a56ba9efce2a9ac
msg/CarlaEgoVehicleControl 4f251fa2a554e8ed996f77eb1d5b65515af1369eceb04d5122cb5761f7801be3
msg/CarlaEgoVehicleInfo b8dc3866014924ce7fe57e0cff05a5448ec18f27156656b3b1b69f4da558e956
msg/CarlaEgoVehicleInfoWheel 63caae9f2637752b93a616b10e00d21be15ca32cac533efd3596349a5cf4d4fe
msg/CarlaEgoVehicleStatus 3565cc74470f5c37eb316a36426effd811ac1baf835df3fc2bb7a88574bb3e07
msg/CarlaLaneInvasionEvent ec4d0e28a97c4a7952a100d47a801996d0463ad7fe0e08a96049de4b19656508
msg/CarlaStatus a3f7fb6fc4b673840e0c092c3c9e52a8120885ba603e0125a23f58ac279c0c13
msg/CarlaTrafficLightInfo c6bc358a736c0843889a6f65d8070f9891619a250fcc58ad51ffb9f87dd138b4
msg/CarlaTrafficLightInfoList 9a13ecb7abe8b5b53c9dc5b7794981c90bd04b0556f8ab66cf26863ac600fde6
msg/CarlaTrafficLightStatus e4a58f6956c9d395f8aa8df33b6aa2765cb83c8522ec3e676196dc49485bf0b8
msg/CarlaTrafficLightStatusList 07f3b9ec436d9925e8b55f229d420336a997e824911afdb299f2dd0f32a26268
msg/CarlaWalkerControl ccb5ec377b88a20b0f341db32d7fcf93a31bbd13662ae1b19dadbe12483c6b88
msg/CarlaWeatherParameters 85e1bba9e8fc0f7bf769d09771c4b2b75ff9702cd486df24e153c74232e26216
msg/CarlaWorldInfo b7093c2a34078b682bef09c0e60c76b06542f8ab4ea69756f9505ca06655e9ab
srv/DestroyObject 3fe49d1944036534b21a259ed04f8e10a086565bed0865631ee3a130b72d6631
srv/GetBlueprints c4c491497c882b601b9b92b51a765047a25515b588394e8fdda8d8faddbbe636
srv/SpawnObject ab9180018028fb47c178ffe99e8156b8fcdb6660c8fb76aadd8e057ffcaf6bd6
"""
TYPE_HASHES = dict(line.split() for line in HASH_TABLE.split('\n') if line)

# How the generated Python classes spell a type.
PYTHON_TYPES = {'bool': 'boolean', 'float32': 'float'}
OWN_TYPES = {Path(name).stem for name in DEFINITIONS}


def lines_of(path):
    stripped = (line.split('#')[0].strip() for line in path.read_text('utf-8').splitlines())
    return [' '.join(line.split()) for line in stripped if line]


def constants_of(lines):
    return {
        line.split()[1].split('=')[0]: int(line.split('=')[1]) for line in lines if '=' in line
    }


def python_type(kind):
    if kind.endswith('[]'):
        return f'sequence<{python_type(kind[:-2])}>'
    return f'carla_msgs/{kind}' if kind in OWN_TYPES else PYTHON_TYPES.get(kind, kind)


def fields_of(lines):
    fields = [line.split() for line in lines if '=' not in line]
    return {name: python_type(kind) for kind, name in fields}


def parts_of(definition):
    """Yield the suffix of the Python class and the lines of each part of a definition."""
    lines = DEFINITIONS[definition]
    if '---' not in lines:
        return [('', lines)]
    middle = lines.index('---')
    return [('Request', lines[:middle]), ('Response', lines[middle + 1 :])]


def generated(definition):
    folder, name = definition.split('.')[0].split('/')
    return getattr(pytest.importorskip(f'carla_msgs.{folder}'), name)


def description_file(definition):
    relative = Path('share', 'carla_msgs', definition).with_suffix('.json')
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    found = [Path(prefix, relative) for prefix in prefixes if Path(prefix, relative).is_file()]
    if not found:
        pytest.skip('carla_msgs is not installed, or by a ROS 2 older than type hashes (Humble)')
    return found[0]


def test_there_are_eighteen_messages_and_three_services():
    found = {f'{path.parent.name}/{path.name}' for path in PACKAGE.glob('*/*.[ms][sr][gv]')}
    assert found == set(DEFINITIONS)
    assert len([name for name in found if name.startswith('msg/')]) == 18
    assert len([name for name in found if name.startswith('srv/')]) == 3


@pytest.mark.parametrize('definition', DEFINITIONS)
def test_definition_has_exactly_these_lines(definition):
    assert lines_of(PACKAGE / definition) == DEFINITIONS[definition]


@pytest.mark.parametrize('definition', DEFINITIONS)
def test_python_class_has_exactly_these_fields(definition):
    outer = generated(definition)
    for suffix, lines in parts_of(definition):
        cls = getattr(outer, suffix) if suffix else outer
        assert cls.get_fields_and_field_types() == fields_of(lines)
        assert list(cls.get_fields_and_field_types()) == list(fields_of(lines))
        for name, value in constants_of(lines).items():
            assert getattr(cls, name) == value


@pytest.mark.parametrize('definition', DEFINITIONS)
def test_type_hash_is_the_one_of_upstream(definition):
    hashes = json.loads(description_file(definition).read_text('utf-8'))['type_hashes']
    name = definition.split('.')[0]
    expected = {'type_name': f'carla_msgs/{name}', 'hash_string': f'RIHS01_{TYPE_HASHES[name]}'}
    assert expected in hashes


def test_every_type_support_was_generated():
    pytest.importorskip('carla_msgs.msg')
    description_file('msg/CarlaStatus.msg')
    supports = ('rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_introspection_c')
    for support in supports:
        importlib.import_module(f'carla_msgs.carla_msgs_s__{support}')
