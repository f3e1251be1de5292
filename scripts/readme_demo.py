#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts the table and the pictures of a finished demo into the README and ``docs/images``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import shutil

from marked import renewed

from td3_agent.evaluation.summary import table

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ('trajectory.png', 'camera.png')


def main() -> None:
    """Renew the README from the demo's folder."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('demo', type=Path, help='folder that td3_agent demo --out named')
    demo = arguments.parse_args().demo
    summary = json.loads((demo / 'summary.json').read_text(encoding='utf-8'))
    readme = ROOT / 'README.md'
    shown = f'```\n{table(summary)}\n```'
    text = renewed(readme.read_text(encoding='utf-8'), 'demo output', shown)
    readme.write_text(text, encoding='utf-8')
    images = ROOT / 'docs' / 'images'
    images.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        shutil.copyfile(demo / name, images / name)


if __name__ == '__main__':
    main()
