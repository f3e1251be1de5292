# SPDX-License-Identifier: Apache-2.0
"""The scaling benchmark: its figures, its picture, and that it drives several vehicles."""

import json

from matplotlib.image import imread
import numpy as np
import pytest
from scaling_picture import draw_scaling

from td3_agent.__main__ import main
from td3_agent.bench import scaling
from td3_agent.bench.lockstep import Lap, lap, roles
from td3_agent.bench.scaling import CASES, Case, figures, fit, report_of, shortfalls, table


def drive(frames_per_s, end_to_end_ms=5.0, violations=0):
    whole = {'p50': end_to_end_ms, 'p99': 2.0 * end_to_end_ms}
    cpu_ms = {'sim_bridge_node': 1.0, 'td3_agent_node': 2.0}
    return Lap(frames_per_s, {'end_to_end': whole}, cpu_ms, violations)


def synthetic_report():
    """A report in which a vehicle costs 4 and 1 ms, and a megapixel 20 and 5 ms."""

    def rate(case, fixed_ms, vehicle_ms, megapixel_ms):
        at_160x120 = case.width == 160
        seen = Case(1, 160, 120).megapixels if at_160x120 else case.megapixels
        return 1e3 / (fixed_ms + vehicle_ms * case.vehicles + megapixel_ms * seen)

    return report_of(
        {
            case: figures(case, [drive(rate(case, 2.0, 4.0, 20.0))], [rate(case, 0.5, 1.0, 5.0)])
            for case in CASES
        }
    )


def test_cases_are_those_that_were_promised():
    assert {(c.vehicles, c.width) for c in scaling.MORE_VEHICLES} == {(1, 160), (2, 160), (4, 160)}
    sizes = {(c.width, c.height) for c in scaling.IMAGE_SIZES}
    assert sizes == {(84, 84), (160, 120), (800, 600), (1920, 1080)}
    assert {c.vehicles for c in scaling.IMAGE_SIZES} == {1}
    assert len(CASES) == len({case.name for case in CASES}) == 6


def test_costs_are_the_slopes():
    report = synthetic_report()
    vehicle, megapixel = report['ms_per_vehicle'], report['ms_per_megapixel']
    assert (vehicle['ros']['each'], vehicle['direct']['each']) == pytest.approx((4.0, 1.0))
    assert (megapixel['ros']['each'], megapixel['direct']['each']) == pytest.approx((20.0, 5.0))
    assert megapixel['ros']['base'] == pytest.approx(6.0)


def test_fit_is_least_squares():
    """Points 0, 1, 5 over 0, 1, 2: the slope is 2.5, through their mean."""
    assert fit([(0.0, 0.0), (1.0, 1.0), (2.0, 5.0)]) == pytest.approx({'each': 2.5, 'base': -0.5})


def test_figures_are_medians_of_turns():
    turns = [drive(100.0, 9.0, 1), drive(300.0, 3.0), drive(200.0, 4.0, 1)]
    found = figures(Case(2, 84, 84), turns, [1000.0, 600.0, 500.0])
    assert found['frames_per_s'] == 200.0
    assert found['ms_per_frame'] == pytest.approx({'ros': 5.0, 'direct': 1e3 / 600.0})
    assert found['end_to_end_ms'] == {'p50': 4.0, 'p99': 8.0}
    assert found['ratio'] == pytest.approx(0.4)
    assert (found['vehicles'], found['width'], found['violations']) == (2, 84, 2)


def test_frames_of_two_vehicles_are_counted_once():
    """Both records of a frame are closed at the same instant; a frame takes 4 ms."""
    records = [
        {
            'outcome': 'ok',
            'commands': 1,
            'sent': None,
            'applied': None,
            'role_name': role,
            'frame_closed_ns': round(i * 4e6),
        }
        for i in range(51)
        for role in roles(2)
    ]
    records[7]['outcome'] = 'stopped_no_command'
    found = lap(records, {'td3_agent_node': 1.0}, {'td3_agent_node': 1.102})
    assert found.frames_per_s == pytest.approx(250.0)
    assert found.cpu_ms == {'td3_agent_node': pytest.approx(2.0)}
    assert (found.violations, found.not_ok) == (0, 1)


def test_roles_are_unique():
    assert roles(1) == ('ego_vehicle',)
    assert roles(3) == ('ego_vehicle', 'car_2', 'car_3')


def test_only_violations_fall_short():
    report = synthetic_report()
    assert shortfalls(report) == []
    report['cases']['4 x 160x120']['violations'] = 3
    assert shortfalls(report) == ['3 violations of the lockstep, expected 0']


def test_table_names_cases_and_costs():
    text = table(synthetic_report())
    assert all(case.name in text for case in CASES)
    assert 'cost per vehicle [ms per frame]: ros 4.00, direct 1.00' in text


def test_picture_shows_both_paths(tmp_path):
    path = tmp_path / 'scaling.png'
    draw_scaling(path, {'scaling': synthetic_report()})
    image = imread(path)[..., :3]
    half = image.shape[1] // 2
    for panel in (image[:, :half], image[:, half:]):
        for colour in ((0.114, 0.373, 0.749), (0.788, 0.384, 0.039)):
            assert (np.abs(panel - colour).max(axis=-1) < 0.02).sum() > 50
    again = tmp_path / 'again.png'
    draw_scaling(again, {'scaling': synthetic_report()})
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.nightly
def test_bench_drives(capsys, monkeypatch):
    few = (Case(1, 84, 84), Case(2, 84, 84))
    monkeypatch.setattr(scaling, 'CASES', (*few, Case(1, 160, 120)))
    monkeypatch.setattr(scaling, 'MORE_VEHICLES', few)
    monkeypatch.setattr(scaling, 'IMAGE_SIZES', (few[0], Case(1, 160, 120)))
    with pytest.raises(SystemExit):
        main(['bench', 'scaling', '--turns', '1', '--frames', '20', '--json'])
    report = json.loads(capsys.readouterr().out)
    for row in report['cases'].values():
        assert row['frames_per_s'] > 0.0
        assert row['violations'] == 0
        assert set(row['cpu_ms']) == {
            'sim_bridge_node',
            'twist_to_control_node',
            'td3_agent_node',
            'synchronizer_node',
        }
        assert row['end_to_end_ms']['p99'] >= row['end_to_end_ms']['p50'] > 0.0
    assert '2 x 84x84' in report['cases']


def test_numbers_that_make_no_sense_are_refused(capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['bench', 'scaling', '--turns', '0'])
    assert 'turns must be >= 1, got 0' in capsys.readouterr().err
