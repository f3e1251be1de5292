# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2's linters pass, where they are installed."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('benchmarks', 'launch', 'scripts', 'td3_agent', 'test')
CODE = [str(ROOT / name) for name in (*FOLDERS, 'setup.py')]
PUBLIC = [str(ROOT / name) for name in ('launch', 'setup.py', 'td3_agent')]
# ruff holds docstrings to Google's convention, which has no blank line after the last section.
OTHER_CONVENTIONS = ('D203', 'D212', 'D213', 'D401', 'D403', 'D404', 'D406', 'D407', 'D413')


def test_copyright(monkeypatch):
    """Each file has a notice and names the licence by its SPDX identifier."""
    parser = pytest.importorskip('ament_copyright.parser')
    main = pytest.importorskip('ament_copyright.main').main
    licences = parser.get_licenses()
    short = '{copyright}\nSPDX-License-Identifier: Apache-2.0'
    apache = licences['apache2']
    known = {**licences, 'spdx': apache._replace(file_headers=[short])}
    monkeypatch.setattr(parser, 'get_licenses', lambda: known)
    assert main(argv=CODE) == 0


def test_flake8():
    main = pytest.importorskip('ament_flake8.main').main_with_errors
    status, errors = main(argv=['--config', str(ROOT / 'setup.cfg'), *CODE])
    assert status == 0, '\n'.join(errors)


def test_pep257():
    main = pytest.importorskip('ament_pep257.main').main
    assert main(argv=['--add-ignore', *OTHER_CONVENTIONS, '--', *PUBLIC]) == 0
