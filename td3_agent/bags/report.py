# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Make one self-contained HTML page from the results of a demo, an evaluation or a replay.

It loads nothing from a network, so it can be mailed, archived and read offline.
"""

from __future__ import annotations

import base64
from contextlib import suppress
import html
from importlib.resources import files
import json
import math
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.bags.bag import Bag
from td3_agent.bags.inputs import PATH, deserialized, find_inputs, read_input
from td3_agent.bags.storage import BagError
from td3_agent.driving.ledger import read_ledger
from td3_agent.driving.stages import end_to_end_ns
from td3_agent.evaluation.episode_result import events, road_around
from td3_agent.evaluation.episodes import EpisodePlan
from td3_agent.evaluation.summary import along, who_drives
from td3_agent.nodes.conversions import route_from_path
from td3_agent.sim.simulator import Simulator, SimulatorConfig

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.bags.bag import Contents
    from td3_agent.driving.observation import ImageView
    from td3_agent.driving.route import Route

Record = dict[str, Any]
MOST_POINTS = 40_000  # of all drives together; a page of some megabytes
JPEG_QUALITY = 72
IMAGE_HEIGHT_PX = 150
HISTOGRAM_BINS = 32
TAIL_PERCENTILE = 99.5
MEGABYTE = 1e6


# Route, if known, and outlines of the lanes around it, (K, 2) [m].
Surroundings = tuple['Route | None', 'list[NDArray[np.float64]]']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('folder', type=Path, help='results of demo, evaluate or replay')
    parser.add_argument(
        '--bag', type=Path, default=None, help="bag with the camera's frames (default: FOLDER/bag)"
    )
    parser.add_argument('--frames', type=int, default=240, help='camera frames at most')
    parser.add_argument(
        '--out', type=Path, default=None, help='the page (default: FOLDER/report.html)'
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and return the exit status.

    Raises:
        ValueError: results or bag are invalid.
        OSError: a file is missing.
    """
    if args.frames < 1:
        raise ValueError(f'--frames must be >= 1, got {args.frames}')
    try:
        data = collect(args.folder, args.bag, args.frames)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'{args.folder}: these are no results that can be drawn') from error
    for line in data.pop('torn'):
        sys.stderr.write(f'{line}\n')
    out = args.out or args.folder / 'report.html'
    out.write_text(page(data), encoding='utf-8')
    size_mb = out.stat().st_size / MEGABYTE
    images = sum(len(drive['images']) for drive in data['drives'])
    sys.stdout.write(
        f'{out}: drives {len(data["drives"])}, camera frames {images}, {size_mb:.1f} MB\n'
    )
    return 0


def page(data: dict[str, Any]) -> str:
    """Return the page, with all texts of the data escaped."""
    template = (files('td3_agent.bags') / 'report.html').read_text(encoding='utf-8')
    text = json.dumps(data, separators=(',', ':'), allow_nan=False)
    for character in '<>&\u2028\u2029':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return template.replace('@TITLE@', html.escape(str(data['title'])), 2).replace('@DATA@', text)


def collect(folder: Path, bag_path: Path | None, frames: int) -> dict[str, Any]:
    """Return the data of the page.

    Args:
        folder: with ``summary.json`` and ``ledger.jsonl``.
        bag_path: the bag with the camera's frames; None: the folder's own, if it has one.
        frames: camera frames at most.

    Raises:
        ValueError: a file of the folder is invalid.
        OSError: a file is missing.
    """
    summary = _summary(folder / 'summary.json')
    ledgers = sorted(folder.glob('*/ledger.jsonl')) if 'policies' in summary else []
    records = [r for path in ledgers or [folder / 'ledger.jsonl'] for r in _named(path, ledgers)]
    drives = _by_drive(records)
    if not drives:
        raise BagError(f'{folder / "ledger.jsonl"}: it has no frames')
    bag = _bag_of(folder, summary, bag_path)
    stride = max(1, -(-sum(map(len, drives.values())) // MOST_POINTS))
    shown = [
        _drive(name, part[::stride], part, _surroundings(summary, name, bag))
        for name, part in drives.items()
    ]
    torn: list[str] = []
    if bag is not None:
        contents = bag.contents()
        torn = contents.torn
        shown[0]['images'] = _images(bag, contents, shown[0]['stamp'], frames)
    for drive in shown:
        del drive['stamp']
    return {
        'title': _title(summary, folder),
        'kind': _kind(summary),
        'facts': _facts(summary),
        'drives': shown,
        'latencies': _latencies(records),
        'torn': torn,
        'outcomes': _counted(records),
        'episodes': _episodes(summary),
    }


def _summary(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise BagError(f'{path}: not JSON: {error}') from error
    if not isinstance(content, dict):
        raise BagError(f'{path}: must be a JSON object')
    return content


def _named(path: Path, several: Sequence[Path]) -> list[Record]:
    """Return the records of a ledger, with the name of its drive if there are several."""
    name = {'drive': path.parent.name} if several else {}
    return [{**record, **name} for record in read_ledger(path)]


def _by_drive(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the frames by episode, policy or role name."""
    drives: dict[str, list[Record]] = {}
    for record in records:
        if 'stamp_ns' in record:
            name = str(record.get('drive', record.get('episode', record.get('role_name', ''))))
            drives.setdefault(name, []).append(record)
    return drives


def _bag_of(folder: Path, summary: dict[str, Any], named: Path | None) -> Bag | None:
    if named is not None:
        return Bag(named)
    of_replay = summary.get('bag')
    for path in (folder / 'bag', Path(of_replay) if isinstance(of_replay, str) else None):
        if path is not None and path.exists():
            return Bag(path)
    return None


def _kind(summary: dict[str, Any]) -> str:
    if 'plan' in summary:
        return 'evaluation'
    return 'replay' if 'bag' in summary else 'drive'


def _title(summary: dict[str, Any], folder: Path) -> str:
    if 'plan' in summary:
        return f'{summary.get("title", "Evaluation")} on {summary["plan"].get("map", "a map")}'
    if 'bag' in summary:
        who = summary.get('driver') or ' and '.join(summary.get('policies', {}))
        return f'{who} on {"/".join(Path(str(summary["bag"])).parts[-2:])}'
    who = who_drives(summary) if 'driver' in summary else folder.name
    return f'{who} on {summary.get("map", "a road")}'


def _surroundings(summary: dict[str, Any], name: str, bag: Bag | None) -> Surroundings:
    """Return road and route of a drive, as far as they are known."""
    simulator = None
    with suppress(ValueError, TypeError, OSError):  # of another version, or the map is missing
        if 'plan' in summary:
            simulator = EpisodePlan(**summary['plan']).episode(int(name)).simulator()
        elif 'map' in summary:
            known = ('map', 'map_seed', 'seed', 'spawn_index')
            config = {'spawn_index': 0} | {key: summary[key] for key in known if key in summary}
            simulator = Simulator(SimulatorConfig(**config))
        if simulator is not None:
            return simulator.ego.route, road_around(simulator)
    return None if bag is None else _route_in(bag), []


def _route_in(bag: Bag) -> Route | None:
    """Return the first route of a bag."""
    names = bag.contents().of_type(PATH)
    for message in bag.messages(names) if names else ():
        with suppress(ValueError):
            return route_from_path(deserialized(message))
    return None


def _drive(
    name: str, records: Sequence[Record], every: Sequence[Record], around: Surroundings
) -> dict[str, Any]:
    """Return the series of one drive, one value or null per frame."""
    route, road = around
    start_ns = records[0]['stamp_ns']
    sent = [r.get('sent') or {} for r in records]
    recorded = [r.get('recorded') or {} for r in records]
    series: dict[str, Any] = {
        'name': name,
        'stamp': [record['stamp_ns'] for record in records],
        't': [round((r['stamp_ns'] - start_ns) / 1e9, 3) for r in records],
        'x': _column(records, 'x_m', digits=2),
        'y': _column(records, 'y_m', digits=2),
        'yaw': _column(records, 'yaw_rad'),
        'speed': _column(records, 'speed_mps'),
        **{pedal: _column(sent, pedal) for pedal in ('steer', 'throttle', 'brake')},
        'yaw_rate': [_yaw_rate(r) for r in records],
        'recorded': [_yaw_rate(r) for r in recorded],
        'outcome': [r['outcome'] for r in records],
        'route': [],
        'road': [_rounded(polygon) for polygon in road],
        'events': [
            [round(x, 2), round(y, 2), label]
            for x, y, label in events([r for r in every if 'x_m' in r])
        ],
        'lateral': [None] * len(records),
        'images': [],
    }
    if route is not None:
        series['route'] = _rounded(np.asarray(route.points_xy))
        series['lateral'] = _lateral(records, route)
    return series


def _yaw_rate(record: Record) -> float | None:
    twist = record.get('twist')
    return _number(twist[1], 3) if isinstance(twist, list) and len(twist) == 2 else None


def _number(value: Any, digits: int) -> float | None:  # noqa: ANN401  a value of JSON
    is_one = isinstance(value, (int, float)) and math.isfinite(value)
    return round(value, digits) if is_one else None


def _column(records: Sequence[Record], name: str, digits: int = 3) -> list[float | None]:
    """Return one field of all records, rounded; None if it is no number."""
    return [_number(record.get(name), digits) for record in records]


def _rounded(points: NDArray[np.float64]) -> list[list[float]]:
    return np.round(points, 1).tolist()


def _lateral(records: Sequence[Record], route: Route) -> list[float | None]:
    """Return the lateral error of each frame [m], left positive."""
    placed = [i for i, record in enumerate(records) if 'x_m' in record]
    errors: list[float | None] = [None] * len(records)
    if placed:
        places = np.array([(records[i]['x_m'], records[i]['y_m']) for i in placed])
        for i, error in zip(placed, along(places, route)[1].tolist(), strict=True):
            errors[i] = round(error, 3)
    return errors


def _images(bag: Bag, contents: Contents, stamps: Sequence[int], most: int) -> list[list[Any]]:
    """Return some frames of the camera as [frame index, data URI]."""
    try:
        inputs = find_inputs(contents)
    except BagError:
        return []  # several cameras or vehicles
    wanted = {stamp: i for i, stamp in enumerate(stamps)}
    step = max(1, -(-contents.counts[inputs.image] // most))
    found: dict[int, str] = {}
    for number, message in enumerate(bag.messages({inputs.image})):
        if number % step:
            continue
        try:
            read = read_input(message, inputs)
        except ValueError:
            continue
        if read.stamp_ns in wanted and wanted[read.stamp_ns] not in found:
            found[wanted[read.stamp_ns]] = picture(read.content)
    return [[i, found[i]] for i in sorted(found)]


def picture(view: ImageView) -> str:
    """Return an image as a small JPEG in a data URI."""
    import cv2  # noqa: PLC0415  of the extra [sim]

    from td3_agent.driving.observation import ENCODINGS  # noqa: PLC0415

    red, green, blue = ENCODINGS[view.encoding][1]
    pixels = np.ascontiguousarray(view.pixels()[:, :, [blue, green, red]])
    height, width = pixels.shape[:2]
    if height > IMAGE_HEIGHT_PX:
        size = (max(1, width * IMAGE_HEIGHT_PX // height), IMAGE_HEIGHT_PX)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, file = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return 'data:image/jpeg;base64,' + base64.b64encode(file.tobytes()).decode()


def _latencies(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return histograms of the latency breakdown [ms], by stage."""
    spans: dict[str, list[float]] = {}
    for record in records:
        if record.get('twist_published_ns') and record.get('image_received_ns'):
            whole = record['twist_published_ns'] - record['image_received_ns']
            spans.setdefault('image to Twist', []).append(whole / 1e6)
        if (whole_ns := end_to_end_ns(record)) is not None:
            spans.setdefault('whole frame', []).append(whole_ns / 1e6)
        for stage, span_ns in (record.get('stages_ns') or {}).items():
            spans.setdefault(stage.replace('_', ' '), []).append(span_ns / 1e6)
    return [_histogram(name, np.array(values)) for name, values in spans.items()]


def _histogram(name: str, values_ms: NDArray[np.float64]) -> dict[str, Any]:
    """Return counts up to the tail; the last bin includes all above it."""
    top = max(float(np.percentile(values_ms, TAIL_PERCENTILE)), 1e-3)
    counts, _ = np.histogram(np.clip(values_ms, 0.0, top), HISTOGRAM_BINS, (0.0, top))
    p50, p99 = np.percentile(values_ms, [50, 99])
    return {
        'name': name,
        'counts': counts.tolist(),
        'top': top,
        'p50': float(p50),
        'p99': float(p99),
        'max': float(values_ms.max()),
        'n': len(values_ms),
    }


def _counted(records: Sequence[Record]) -> dict[str, int]:
    """Return the number of frames with each outcome."""
    outcomes = [record['outcome'] for record in records]
    return {name: outcomes.count(name) for name in sorted(set(outcomes))}


def _episodes(summary: dict[str, Any]) -> list[dict[str, Any]]:
    rows = summary.get('episodes')
    if not isinstance(rows, list):
        return []
    return [
        {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
        for row in rows
    ]


def _facts(summary: dict[str, Any], prefix: str = '') -> list[list[str]]:
    """Return the figures of a summary as names and texts; tables within are flattened."""
    facts: list[list[str]] = []
    for key, value in summary.items():
        name = f'{prefix}{key}'.replace('_', ' ')
        if isinstance(value, dict):
            facts += _facts(value, f'{name}: ') if value else []
        elif isinstance(value, float):
            facts.append([name, f'{value:.4g}'])
        elif not isinstance(value, list):
            facts.append([name, '-' if value is None else str(value)])
    return facts
