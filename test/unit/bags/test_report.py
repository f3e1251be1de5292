# SPDX-License-Identifier: Apache-2.0
"""The report: one page that needs nothing, read and clicked through in a real browser."""

import json
from pathlib import Path
import re

import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')
pytest.importorskip('carla', reason='the report draws the roads of the simulator')

from browser import NAMES, Browser, find_browser

from td3_agent.__main__ import main
from td3_agent.bags.report import collect, page
from td3_agent.driving.ledger import LedgerWriter, read_ledger

SHIPPED = Path(__file__).parents[2] / 'bags' / 'oval'
SUMMARY = {
    'driver': 'td3',
    'policy': 'lane',
    'map': 'oval',
    'map_seed': 0,
    'seed': 0,
    'frames': 80,
    'violations': 0,
    'distance_m': 20.0,
}


def write_results(folder, summary, records):
    folder.mkdir(exist_ok=True)
    (folder / 'summary.json').write_text(json.dumps(summary))
    with LedgerWriter(folder / 'ledger.jsonl') as ledger:
        for record in records:
            ledger.write(record)
    return folder


def made(*words):
    with pytest.raises(SystemExit) as ended:
        main(['report', *map(str, words)])
    return ended.value.code


@pytest.fixture
def records():
    return list(read_ledger(SHIPPED / 'ledger.jsonl'))


@pytest.fixture
def demo(tmp_path, records):
    folder = write_results(tmp_path / 'demo', SUMMARY, records)
    (folder / 'bag').symlink_to(SHIPPED)
    return folder


@pytest.fixture
def evaluation(tmp_path, records):
    episodes = [
        {'episode': i, 'ending': 'goal', 'success': True, 'route_completion': 1.0 - 0.5 * i}
        for i in range(2)
    ]
    summary = {'title': 'TD3, lane', 'plan': {'map': 'winding'}, 'episodes': episodes}
    several = [{'episode': i, **record} for i in range(2) for record in records[i * 20 :]]
    return write_results(tmp_path / 'evaluation', summary, several)


@pytest.fixture
def browser(tmp_path):
    program = find_browser()
    if program is None:
        pytest.skip(f'no browser: none of {", ".join(NAMES)} is installed')
    opened = Browser(program, tmp_path / 'profile')
    try:
        yield opened
    finally:
        opened.close()


class TestData:
    def test_series_have_a_value_for_each_frame(self, demo, records):
        data = collect(demo, None, 20)
        (drive,) = data['drives']
        lengths = {len(v) for k, v in drive.items() if k in {'t', 'x', 'speed', 'lateral'}}
        assert lengths == {80}
        assert drive['x'][-1] == round(records[-1]['x_m'], 2)
        assert drive['t'][-1] == pytest.approx(79 * 0.05, abs=1e-3)
        assert 10 <= len(drive['images']) <= 20
        assert max(abs(error) for error in drive['lateral']) < 1.0
        assert drive['road']
        assert data['outcomes'] == {'ok': 80}

    def test_histograms_count_every_frame(self, demo):
        for one in collect(demo, None, 1)['latencies']:
            assert sum(one['counts']) == one['n'] == 80

    def test_episodes_are_drives(self, evaluation):
        data = collect(evaluation, None, 1)
        assert [drive['name'] for drive in data['drives']] == ['0', '1']
        assert [len(drive['t']) for drive in data['drives']] == [80, 60]
        assert len(data['episodes']) == 2

    def test_a_world_that_is_not_known_is_not_drawn(self, tmp_path, records):
        folder = write_results(tmp_path / 'a', SUMMARY | {'map': 'gone.xodr'}, records)
        (drive,) = collect(folder, None, 1)['drives']
        assert drive['road'] == drive['route'] == []

    def test_replay_shows_what_was_recorded(self, tmp_path):
        pytest.importorskip('torch')
        with pytest.raises(SystemExit):
            main(['replay', str(SHIPPED), '--out', str(tmp_path)])
        (drive,) = collect(tmp_path, None, 5)['drives']
        assert drive['recorded'] == drive['yaw_rate']
        assert drive['route']
        assert drive['images']


class TestPage:
    def test_refers_to_nothing_outside(self, demo):
        assert made(demo) == 0
        text = (demo / 'report.html').read_text()
        assert not re.findall(r'<[a-z]+\s[^>]*(?:src|href)\s*=', text)
        assert not re.findall(r'@import|url\(|fetch\(|import\(', text)
        assert set(re.findall(r'https?://[\w./]+', text)) == {'http://www.w3.org/2000/svg'}

    def test_says_that_its_bag_is_damaged(self, demo, tmp_path, capsys):
        content = (SHIPPED / 'bag_0.mcap').read_bytes()
        (tmp_path / 'half.mcap').write_bytes(content[: len(content) // 2])
        assert made(demo, '--bag', tmp_path / 'half.mcap') == 0
        (said,) = capsys.readouterr().err.splitlines()
        assert 'half.mcap: cut off at byte' in said

    def test_texts_are_never_markup(self, tmp_path, records):
        evil = '</script><script>alert(1)</script>'
        folder = write_results(tmp_path / 'a', SUMMARY | {'policy': evil}, records)
        text = page(collect(folder, None, 1))
        assert evil not in text
        assert text.count('</script>') == 2

    @pytest.mark.parametrize(
        ('name', 'content', 'reason'),
        [
            ('summary.json', '[', 'not JSON'),
            ('summary.json', '[]', 'must be a JSON object'),
            ('ledger.jsonl', '', 'not JSON'),
        ],
    )
    def test_refuses_what_is_no_result(self, name, content, reason, demo, capsys):
        (demo / name).write_text(content)
        assert made(demo) == 2
        assert reason in capsys.readouterr().err

    def test_nothing_there(self, tmp_path, capsys):
        assert made(tmp_path) == 2
        assert 'summary.json' in capsys.readouterr().err


@pytest.mark.slow
class TestInTheBrowser:
    def test_a_drive(self, demo, browser):
        assert made(demo) == 0
        browser.look(1280, 900)
        browser.open(demo / 'report.html')
        assert browser.js("document.querySelector('h1').textContent") == 'TD3 policy lane on oval'
        assert browser.js("document.querySelectorAll('#charts svg').length") == 4
        first = browser.js("document.getElementById('camera').src")
        browser.click('#charts svg', across=0.75)
        assert 50 <= browser.js('at') <= 66
        assert browser.js("document.getElementById('camera').src") != first
        assert browser.js("document.getElementById('camera').naturalWidth") > 0
        browser.click('#map', across=0.02)
        at_the_start = browser.js('at')
        browser.click('#map', across=0.98)
        assert at_the_start != browser.js('at')
        browser.click('#cursor', across=0.5)
        assert 36 <= browser.js('at') <= 43
        browser.click('#play')
        browser.until('at > 50')
        browser.click('#play')
        assert browser.js("document.getElementById('play').textContent") == 'Play'
        browser.click('#all summary')
        assert browser.js("document.getElementById('facts').offsetHeight") > 0
        assert browser.errors == []

    def test_an_evaluation(self, evaluation, browser):
        assert made(evaluation) == 0
        browser.look(1280, 900)
        browser.open(evaluation / 'report.html')
        assert browser.js('drive.name') == '0'
        browser.click('#episodes tbody tr:nth-child(2)')
        assert browser.js('drive.name') == '1'
        assert browser.js("document.getElementById('drive').value") == '1'
        assert browser.js("document.getElementById('nothing').offsetHeight") > 0
        assert browser.errors == []

    @pytest.mark.parametrize('width', [360, 820, 1600])
    @pytest.mark.parametrize('dark', [False, True])
    def test_fits_every_screen(self, width, dark, demo, browser):
        assert made(demo) == 0
        browser.look(width, 800, dark=dark)
        browser.open(demo / 'report.html')
        assert browser.js('document.documentElement.scrollWidth') <= width
        background = browser.js('getComputedStyle(document.body).backgroundColor')
        assert (int(re.search(r'\d+', background)[0]) < 128) == dark
        assert browser.errors == []

    def test_prints_on_white(self, demo, browser):
        assert made(demo) == 0
        browser.look(1000, 800, dark=True, media='print')
        browser.open(demo / 'report.html')
        background = browser.js('getComputedStyle(document.body).backgroundColor')
        assert background == 'rgb(255, 255, 255)'
        assert browser.js(
            "getComputedStyle(document.getElementById('play').parentNode).display"
        ) == ('none')
        pdf = browser.call('Page.printToPDF')['data']
        assert len(pdf) > 20_000
