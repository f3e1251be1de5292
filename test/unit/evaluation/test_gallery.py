# SPDX-License-Identifier: Apache-2.0
"""The picture of all episodes: readable for one and for fifty, whatever happened in them."""

from matplotlib.image import imread
import numpy as np
import pytest

from td3_agent.evaluation.episode_result import EpisodeResult, EpisodeView
from td3_agent.evaluation.gallery import cell_aspect, plot_gallery

X = np.linspace(0.0, 300.0, 200)
GREEN, RED = (0.12, 0.48, 0.24), (0.70, 0.13, 0.16)


def judged(number=0, *, success=True, events=(), frames=200, height=20.0):
    line = np.column_stack((X, height * np.sin(X / 40.0)))
    half_road = np.array([0.0, 3.5])
    road = np.vstack((line + half_road, (line - half_road)[::-1]))
    view = EpisodeView(
        driven=line[:frames],
        speed_mps=np.linspace(0.0, 8.0, 200)[:frames],
        route=line,
        road=[road],
        events=list(events),
    )
    figures = {
        'episode': number,
        'ending': 'goal' if success else 'off_route',
        'success': success,
        'route_completion': 0.5,
        'mean_speed_mps': 4.0 if frames else None,
    }
    return EpisodeResult(figures=figures, view=view)


def draw(path, episodes):
    plot_gallery(path, episodes, 'episodes')
    return imread(path)


def share_of(image, colour):
    return float((np.abs(image[..., :3] - colour).max(axis=-1) < 0.08).mean())


@pytest.mark.parametrize('count', [1, 2, 9, 50])
@pytest.mark.slow
def test_any_number_of_episodes_fits(tmp_path, count):
    height, width = draw(tmp_path / 'all.png', [judged(i) for i in range(count)]).shape[:2]
    assert 400 < width < 2600
    assert 150 < height < 2600


def test_failed_episodes_stand_out(tmp_path):
    good = draw(tmp_path / 'good.png', [judged(i) for i in range(4)])
    bad = draw(tmp_path / 'bad.png', [judged(i, success=False) for i in range(4)])
    assert share_of(bad, RED) > 2.0 * share_of(good, RED)
    assert share_of(good, GREEN) > share_of(bad, GREEN)


def test_events_are_marked(tmp_path):
    quiet = draw(tmp_path / 'quiet.png', [judged()])
    hit = draw(tmp_path / 'hit.png', [judged(events=[(150.0, 0.0, 'collision')])])
    assert share_of(hit, (0.83, 0.13, 0.16)) > share_of(quiet, (0.83, 0.13, 0.16)) + 1e-4


@pytest.mark.parametrize('frames', [0, 1])
def test_episode_without_a_drive_is_drawn_all_the_same(tmp_path, frames):
    assert draw(tmp_path / 'none.png', [judged(frames=frames, success=False)]).size


def test_long_roads_get_flat_cells_and_towns_square_ones():
    assert cell_aspect([judged(height=5.0).view]) == pytest.approx(0.35)
    assert cell_aspect([judged(height=5.0).view, judged(height=400.0).view]) == 1.0
