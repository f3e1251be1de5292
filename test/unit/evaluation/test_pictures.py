# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures: they show what they were given, whatever the drives were, one or fifty."""

import subprocess
import sys

from matplotlib.image import imread
import numpy as np
import pytest

from td3_agent.evaluation.episode_result import EpisodeResult, EpisodeView
from td3_agent.evaluation.pictures import (
    camera_strip,
    cell_aspect,
    plot_gallery,
    plot_trajectory,
)

X = np.linspace(0.0, 100.0, 120)
LINE = np.column_stack((X, 10.0 * np.sin(X / 15.0)))
SPEED = np.linspace(0.0, 8.0, 120)
HALF_ROAD = np.array([0.0, 3.5])
NOTHING = np.zeros((0, 2))
ROAD = np.vstack((LINE + HALF_ROAD, (LINE - HALF_ROAD)[::-1]))


RED, GREEN = (0.70, 0.13, 0.16), (0.12, 0.48, 0.24)
EVENT_RED = (0.83, 0.13, 0.16)


def view(**changes):
    parts = {'driven': LINE, 'speed_mps': SPEED, 'road': [ROAD], 'route': LINE, 'events': []}
    return EpisodeView(**{**parts, **changes})


def draw(path, markings=(LINE,), title='drive', **changes):
    plot_trajectory(path, view(**changes), markings=markings, title=title)
    return imread(path)


def result(number=0, *, success=True, frames=120, **changes):
    figures = {
        'episode': number,
        'ending': 'goal' if success else 'off_route',
        'success': success,
        'route_completion': 0.5,
        'mean_speed_mps': 4.0 if frames else None,
    }
    seen = view(driven=LINE[:frames], speed_mps=SPEED[:frames], **changes)
    return EpisodeResult(figures=figures, view=seen)


def draw_all(path, episodes):
    plot_gallery(path, episodes, 'episodes')
    return imread(path)


def share_of(image, colour, tolerance=0.08):
    """Share of the pixels that have about this colour."""
    return float((np.abs(image[..., :3] - colour).max(axis=-1) < tolerance).mean())


def test_trajectory_is_a_png_with_road_and_drive_in_it(tmp_path):
    image = draw(tmp_path / 'trajectory.png', title='oval')
    asphalt, slow, fast = (0.64, 0.65, 0.68), (0.48, 0.05, 0.18), (0.07, 0.35, 0.43)
    for colour, least in ((asphalt, 0.01), (slow, 2e-4), (fast, 2e-4)):
        assert share_of(image, colour) > least
    assert share_of(draw(tmp_path / 'bare.png', road=[]), asphalt) < 0.01


def test_colour_follows_the_speed(tmp_path):
    slow, fast = (0.48, 0.05, 0.18), (0.07, 0.35, 0.43)
    crawling = draw(tmp_path / 'crawl.png', speed_mps=np.zeros(120))
    racing = draw(tmp_path / 'race.png', speed_mps=np.full(120, 8.33))
    assert share_of(crawling, slow) > 2.0 * share_of(racing, slow)
    assert share_of(racing, fast) > 2.0 * share_of(crawling, fast)


@pytest.mark.parametrize('number', [1, 2])
def test_events_are_marked(tmp_path, number):
    events = [(20.0, 5.0, 'collision'), (60.0, -5.0, 'collision'), (90.0, 0.0, 'lane invasion')]
    if number == 1:
        quiet, loud = (draw(tmp_path / 'one.png', events=some) for some in ([], events))
    else:
        quiet, loud = (draw_all(tmp_path / 'all.png', [result(events=e)]) for e in ([], events))
    assert share_of(loud, EVENT_RED) > share_of(quiet, EVENT_RED) + 1e-4


def test_long_thin_road_and_square_town_keep_readable_proportions(tmp_path):
    for scale, least, most in (((9.0, 5.0), 2.5, 6.0), ((1.0, 5.0), 0.8, 1.5)):
        height, width = draw(
            tmp_path / 'map.png', driven=LINE * scale, route=LINE * scale, road=[ROAD * scale]
        ).shape[:2]
        assert least < width / height < most
        assert max(width, height) < 2000


@pytest.mark.parametrize(
    'changes',
    [
        {'driven': NOTHING, 'speed_mps': np.zeros(0)},
        {'driven': NOTHING, 'speed_mps': np.zeros(0), 'route': NOTHING, 'road': []},
        {'driven': LINE[:1], 'speed_mps': SPEED[:1], 'route': NOTHING},
        {'driven': np.zeros((50, 2)), 'speed_mps': np.zeros(50), 'road': []},
        {'driven': np.vstack((LINE, [[np.nan, np.nan]])), 'speed_mps': np.append(SPEED, np.nan)},
        {'driven': np.vstack((LINE, LINE + 1e3)), 'speed_mps': np.append(SPEED, SPEED)},
        {'route': NOTHING},
    ],
)
def test_odd_drives_are_drawn_too(tmp_path, changes):
    assert draw(tmp_path / 'odd.png', **changes).ndim == 3


def test_equal_drives_give_equal_bytes(tmp_path):
    draw(tmp_path / 'one.png')
    draw(tmp_path / 'two.png')
    assert (tmp_path / 'one.png').read_bytes() == (tmp_path / 'two.png').read_bytes()


@pytest.mark.parametrize('count', [1, 9, 50])
@pytest.mark.slow
def test_any_number_of_episodes_fits(tmp_path, count):
    height, width = draw_all(tmp_path / 'all.png', [result(i) for i in range(count)]).shape[:2]
    assert 400 < width < 2600
    assert 150 < height < 2600


def test_failed_episodes_stand_out(tmp_path):
    good = draw_all(tmp_path / 'good.png', [result(i) for i in range(4)])
    bad = draw_all(tmp_path / 'bad.png', [result(i, success=False) for i in range(4)])
    assert share_of(bad, RED) > 2.0 * share_of(good, RED)
    assert share_of(good, GREEN) > share_of(bad, GREEN)


@pytest.mark.parametrize('frames', [0, 1])
def test_episode_without_a_drive_is_drawn_all_the_same(tmp_path, frames):
    assert draw_all(tmp_path / 'none.png', [result(frames=frames, success=False)]).size


def test_long_roads_get_flat_cells_and_towns_square_ones():
    long, town = (view(driven=LINE * s, route=LINE * s) for s in ((9.0, 1.0), (1.0, 9.0)))
    assert cell_aspect([long]) == pytest.approx(0.35)
    assert cell_aspect([long, town]) == 1.0


def frame(colour, channels=3):
    return np.broadcast_to(np.array([*colour, 0][:channels], np.uint8), (60, 80, channels))


@pytest.mark.parametrize(('order', 'seen'), [('rgb', (1, 0, 0)), ('bgr', (0, 0, 1))])
def test_strip_shows_colours_as_they_are(tmp_path, order, seen):
    path = tmp_path / 'camera.png'
    camera_strip(path, [frame((255, 0, 0))] * 3, ['0.00 s', '0.05 s', '0.10 s'], order=order)
    assert share_of(imread(path), seen) > 0.6


def test_strip_leaves_alpha_out_and_wraps_into_rows(tmp_path):
    one, two = tmp_path / 'one.png', tmp_path / 'two.png'
    camera_strip(one, [frame((0, 255, 0), 4)] * 6, ['t'] * 6, order='bgr', title='seen')
    camera_strip(two, [frame((0, 255, 0), 4)] * 7, ['t'] * 7, order='bgr', title='seen')
    assert share_of(imread(one), (0, 1, 0)) > 0.5
    assert imread(two).shape[0] > 1.5 * imread(one).shape[0]
    assert imread(two).shape[1] == imread(one).shape[1]


@pytest.mark.parametrize(
    ('frames', 'captions', 'message'),
    [
        ([], [], 'one caption per frame, got 0 and 0'),
        ([frame((0, 0, 0))], [], 'got 1 and 0'),
        ([np.zeros((60, 80), np.uint8)], ['t'], r'frame must be .* got \(60, 80\) uint8'),
        ([np.zeros((60, 80, 3))], ['t'], 'float64'),
    ],
)
def test_wrong_frames_are_refused(tmp_path, frames, captions, message):
    with pytest.raises(ValueError, match=message):
        camera_strip(tmp_path / 'never.png', frames, captions)


def test_pyplot_is_never_imported():
    code = (
        'import sys, numpy as np\n'
        'from td3_agent.evaluation.pictures import camera_strip\n'
        'camera_strip("/dev/null", [np.zeros((9, 9, 3), np.uint8)], ["t"])\n'
        'assert "matplotlib.pyplot" not in sys.modules\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
