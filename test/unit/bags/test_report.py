# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The report: one page that needs nothing, read and clicked through in a real browser."""

import html
import json
from pathlib import Path
import re
import shutil
import subprocess

import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')
pytest.importorskip('carla', reason='the report draws the roads of the simulator')

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


# Notes what a reader would find in the console.
WATCH = """<script>
const seen = {}, errors = [];
addEventListener('error', event => errors.push(event.message));
addEventListener('unhandledrejection', event => errors.push(String(event.reason)));
</script>"""
# Does what a reader does, and leaves what is seen in the page.
LOOK = """<script>
function press(selector, across) {
  const element = document.querySelector(selector), box = element.getBoundingClientRect();
  const clientX = box.left + across * box.width, clientY = box.top + box.height / 2;
  element.dispatchEvent(new PointerEvent('pointerdown', { clientX, clientY }));
}
const shown = selector => document.querySelector(selector).offsetHeight > 0;
function tell() {
  const asked = performance.getEntriesByType('resource').map(entry => entry.name);
  const text = JSON.stringify({ ...seen, errors: [...errors, ...asked] });
  document.body.append(Object.assign(document.createElement('pre'), { id: 'seen' }));
  document.getElementById('seen').textContent = text;
}
addEventListener('load', () => { %s });
</script>"""


@pytest.fixture
def browser(tmp_path):
    """Return a function that opens a page, runs a script in it, and returns what was seen."""
    names = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f'no browser: none of {", ".join(names)} is installed')
    options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']
    options += [f'--user-data-dir={tmp_path / "profile"}', '--disable-background-networking']

    def look(text, script, *more):
        path = tmp_path / 'opened.html'
        path.write_text(text.replace('<head>', f'<head>{WATCH}', 1) + LOOK % script, 'utf-8')
        words = [program, *options, '--virtual-time-budget=10000', *more, '--dump-dom', str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120.0)
        seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)[1]))
        assert seen.pop('errors') == []
        return seen

    return look


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
        text = page(collect(demo, None, 240))
        seen = browser(
            text,
            """
            const camera = by('camera'), first = camera.src;
            seen.title = document.querySelector('h1').textContent;
            seen.charts = document.querySelectorAll('#charts svg').length;
            press('#charts svg', 0.75);
            seen.late = at;
            seen.is_another = camera.src !== first;
            press('#map', 0.02);
            seen.left = at;
            press('#map', 0.98);
            seen.right = at;
            by('cursor').value = 40;
            by('cursor').dispatchEvent(new Event('input'));
            seen.moved = at;
            by('play').click();
            document.querySelector('#all summary').click();
            setTimeout(() => {
              Object.assign(seen, { played: at, width: camera.naturalWidth });
              by('play').click();
              seen.button = by('play').textContent;
              seen.facts = shown('#facts');
              tell();
            }, 1000);
            """,
            '--window-size=1280,900',
        )
        assert (seen['title'], seen['charts']) == ('TD3 policy lane on oval', 4)
        assert 50 <= seen['late'] <= 66
        assert seen['is_another']
        assert seen['width'] > 0
        assert seen['left'] != seen['right']
        assert seen['moved'] == 40 < seen['played']
        assert (seen['button'], seen['facts']) == ('Play', True)

    def test_an_evaluation(self, evaluation, browser):
        seen = browser(
            page(collect(evaluation, None, 1)),
            """
            seen.before = drive.name;
            document.querySelector('#episodes tbody tr:nth-child(2)').click();
            Object.assign(seen, { after: drive.name, chosen: by('drive').value });
            seen.nothing = shown('#nothing');
            tell();
            """,
        )
        assert seen == {'before': '0', 'after': '1', 'chosen': '1', 'nothing': True}

    @pytest.mark.parametrize('dark', [False, True])
    def test_fits_every_screen_and_prints_on_white(self, dark, demo, browser):
        """Frames of a page have widths of their own; the rules for print are tried as others."""
        text = html.escape(page(collect(demo, None, 10)))
        widths = (360, 820, 1600)
        frames = ''.join(
            f'<iframe width="{w}" height="800" srcdoc="{text}"></iframe>' for w in widths
        )
        seen = browser(
            f'<!DOCTYPE html><html><head></head><body>{frames}</body></html>',
            """
            const pages = [...document.querySelectorAll('iframe')].map(f => f.contentDocument);
            const background = page => getComputedStyle(page.body).backgroundColor;
            seen.widths = pages.map(page => page.documentElement.scrollWidth);
            seen.screen = background(pages[0]);
            const rules = [...pages[0].styleSheets].flatMap(sheet => [...sheet.cssRules]);
            const print = rules.filter(rule => rule.media?.mediaText === 'print');
            const style = pages[0].createElement('style');
            style.textContent = print.flatMap(r => [...r.cssRules]).map(r => r.cssText).join(' ');
            pages[0].head.append(style);
            seen.print = background(pages[0]);
            seen.play = getComputedStyle(pages[0].getElementById('play').parentNode).display;
            tell();
            """,
            f'--blink-settings=preferredColorScheme={int(not dark)}',
        )
        assert all(seen <= width for seen, width in zip(seen['widths'], widths, strict=True))
        assert (int(re.search(r'\d+', seen['screen'])[0]) < 128) == dark
        assert (seen['print'], seen['play']) == ('rgb(255, 255, 255)', 'none')
