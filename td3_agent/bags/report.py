# SPDX-License-Identifier: Apache-2.0
"""Make one self-contained HTML page from the results of a demo, an evaluation or a replay.

Nothing on it is fetched from anywhere: it can be mailed, archived, and read without a network.
"""

from __future__ import annotations

import html
from importlib.resources import files
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from td3_agent.bags.report_data import collect

if TYPE_CHECKING:
    import argparse

MEGABYTE = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('folder', type=Path, help='results of demo, evaluate or replay')
    parser.add_argument(
        '--bag', type=Path, default=None, help="bag with the camera's frames; none: FOLDER/bag"
    )
    parser.add_argument('--frames', type=int, default=240, help='camera frames at most')
    parser.add_argument(
        '--out', type=Path, default=None, help='the page; none: FOLDER/report.html'
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and return the exit status.

    Raises:
        ValueError: results or bag cannot be read; the text says why.
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
        f'{out}: {len(data["drives"])} drives, {images} camera frames, {size_mb:.1f} MB\n'
    )
    return 0


def page(data: dict[str, Any]) -> str:
    """Return the page; whatever texts the data holds, none of them becomes markup."""
    template = (files('td3_agent.bags') / 'report.html').read_text(encoding='utf-8')
    text = json.dumps(data, separators=(',', ':'), allow_nan=False)
    for character in '<>&\u2028\u2029':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return template.replace('@TITLE@', html.escape(str(data['title'])), 2).replace('@DATA@', text)
