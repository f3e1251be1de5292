# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters: what a declaration accepts, rejects and says about itself."""

from dataclasses import FrozenInstanceError, dataclass
import math

import pytest

from td3_agent.driving.parameters import (
    ParameterError,
    Params,
    describe,
    did_you_mean,
    param,
    param_of,
    reject_unknown,
)


@dataclass(frozen=True, kw_only=True)
class Example(Params):
    """One parameter of every kind."""

    speed_mps: float = param(8.0, 'how fast', unit='m/s', low=0.0, high=10.0)
    frames: int = param(4, 'how many', low=1)
    depth_m: float = param(0.0, 'how deep', unit='m', high=5.0)
    bias: float = param(0.5, 'any number')
    mode: str = param('fast', 'how', choices=('fast', 'slow'))
    name: str = param('', 'of whom')
    enabled: bool = param(default=True, text='whether')
    roles: tuple[str, ...] = param(('ego_vehicle', 'hero'), 'who')


@dataclass(frozen=True, kw_only=True)
class Borrowing(Params):
    """A parameter under another name."""

    lead_speed_mps: float = param_of(Example, 'speed_mps')


def test_parameter_of_another_class_has_its_default_and_limits():
    assert Borrowing().lead_speed_mps == 8.0
    with pytest.raises(ParameterError, match=r'lead_speed_mps .*10.*m/s.* 10\.5'):
        Borrowing(lead_speed_mps=10.5)


def test_defaults_are_accepted():
    example = Example()
    assert (example.speed_mps, example.frames, example.roles) == (8.0, 4, ('ego_vehicle', 'hero'))


@pytest.mark.parametrize(
    ('name', 'values'),
    [
        ('speed_mps', [0.0, 10.0]),
        ('frames', [1, 2**40]),
        ('depth_m', [5.0, -1e300]),
        ('bias', [-1e300, 1e300]),
        ('mode', ['fast', 'slow']),
        ('roles', [(), ('one',)]),
    ],
)
def test_limits_belong_to_the_range(name, values):
    for value in values:
        assert getattr(Example(**{name: value}), name) == value


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'speed_mps': -0.1}, r'^speed_mps must be in \[0, 10\] \[m/s\], got -0\.1$'),
        ({'speed_mps': 10.1}, r'^speed_mps must be in \[0, 10\] \[m/s\], got 10\.1$'),
        ({'speed_mps': math.nan}, r'^speed_mps must be in \[0, 10\] \[m/s\], got nan$'),
        ({'speed_mps': math.inf}, r'^speed_mps must be in \[0, 10\] \[m/s\], got inf$'),
        ({'frames': 0}, '^frames must be >= 1, got 0$'),
        ({'depth_m': 5.5}, r'^depth_m must be <= 5 \[m\], got 5\.5$'),
        ({'depth_m': -math.inf}, r'^depth_m must be <= 5 \[m\], got -inf$'),
        ({'bias': math.nan}, '^bias must be finite, got nan$'),
        ({'bias': math.inf}, '^bias must be finite, got inf$'),
        ({'mode': 'quick'}, "^mode must be one of fast, slow, got 'quick'$"),
        ({'mode': ''}, "^mode must be one of fast, slow, got ''$"),
    ],
)
def test_value_out_of_range_is_rejected_with_name_value_and_unit(values, text):
    with pytest.raises(ParameterError, match=text):
        Example(**values)


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'speed_mps': '8'}, "^speed_mps must be float, got '8'$"),
        ({'speed_mps': True}, '^speed_mps must be float, got True$'),
        ({'speed_mps': None}, '^speed_mps must be float, got None$'),
        ({'frames': 4.0}, r'^frames must be int, got 4\.0$'),
        ({'frames': True}, '^frames must be int, got True$'),
        ({'frames': '4'}, "^frames must be int, got '4'$"),
        ({'enabled': 1}, '^enabled must be bool, got 1$'),
        ({'enabled': 'true'}, "^enabled must be bool, got 'true'$"),
        ({'name': 3}, '^name must be str, got 3$'),
        ({'mode': 3}, '^mode must be str, got 3$'),
        ({'roles': 'ego_vehicle'}, "^roles must be a list of strings, got 'ego_vehicle'$"),
        ({'roles': ('a', 1)}, r"^roles must be a list of strings, got \('a', 1\)$"),
        ({'roles': None}, '^roles must be a list of strings, got None$'),
    ],
)
def test_value_of_another_type_is_rejected(values, text):
    with pytest.raises(ParameterError, match=text):
        Example(**values)


def test_int_is_taken_for_a_float():
    value = Example(speed_mps=3).speed_mps
    assert value == 3.0
    assert type(value) is float


def test_list_is_taken_for_a_tuple():
    assert Example(roles=['a', 'b']).roles == ('a', 'b')


def test_all_faults_are_named_at_once():
    with pytest.raises(ParameterError) as caught:
        Example(speed_mps=99.0, frames='x', mode='quick', roles=[1], enabled=0)
    faults = str(caught.value).split('; ')
    assert [fault.split()[0] for fault in faults] == [
        'speed_mps',
        'frames',
        'mode',
        'enabled',
        'roles',
    ]


def test_parameters_cannot_be_changed_afterwards():
    with pytest.raises(FrozenInstanceError):
        Example().speed_mps = 1.0


def test_parameter_error_is_a_value_error():
    assert issubclass(ParameterError, ValueError)


def test_known_names_pass():
    reject_unknown(['frames', 'mode'], Example, 'example')
    reject_unknown([], Example, 'example')


def test_unknown_name_is_rejected_with_the_nearest_known_one():
    with pytest.raises(ParameterError) as caught:
        reject_unknown(['frame', 'speed_mph', 'qqqq', 'mode'], Example, 'example.yaml')
    assert str(caught.value) == (
        "example.yaml has no parameter 'frame', did you mean 'frames'?; "
        "example.yaml has no parameter 'speed_mph', did you mean 'speed_mps'?; "
        "example.yaml has no parameter 'qqqq'"
    )


def test_description_has_one_row_per_parameter_in_order():
    assert describe(Example) == [
        ('speed_mps', '8.0', 'm/s', 'in [0, 10] [m/s]', 'how fast'),
        ('frames', '4', '', '>= 1', 'how many'),
        ('depth_m', '0.0', 'm', '<= 5 [m]', 'how deep'),
        ('bias', '0.5', '', 'finite', 'any number'),
        ('mode', 'fast', '', 'fast, slow', 'how'),
        ('name', "''", '', '', 'of whom'),
        ('enabled', 'true', '', '', 'whether'),
        ('roles', '[ego_vehicle, hero]', '', '', 'who'),
    ]


def test_inherited_parameters_are_checked_and_described_too():
    @dataclass(frozen=True, kw_only=True)
    class More(Example):
        """One parameter more."""

        gain: float = param(1.0, 'how strong', low=0.0)

    assert [row[0] for row in describe(More)][-1] == 'gain'
    with pytest.raises(ParameterError, match='frames must be >= 1, got 0; gain must be >= 0'):
        More(frames=0, gain=-1.0)


@dataclass(frozen=True, kw_only=True)
class Places(Params):
    """Paths, one of which may also be a name."""

    ledger: str = param('', 'where', path=True)
    note: str = param('', 'not a path')


def test_home_is_expanded_in_paths_alone(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    places = Places(ledger='~/a/b.jsonl', note='~/a')
    assert (places.ledger, places.note) == (f'{tmp_path}/a/b.jsonl', '~/a')
    assert Places(ledger='~').ledger == str(tmp_path)
    assert Places(ledger='a/~/b').ledger == 'a/~/b'


def test_home_of_no_user_is_rejected():
    with pytest.raises(ParameterError, match=r"^ledger: '~no-such-user/x' must begin with ~/ or"):
        Places(ledger='~no-such-user/x')


@pytest.mark.parametrize(
    ('name', 'end'), [('polcy', ", did you mean 'policy'?"), ('zzz', ''), ('', '')]
)
def test_nearest_name(name, end):
    assert did_you_mean(name, ['policy', 'seed']) == end
