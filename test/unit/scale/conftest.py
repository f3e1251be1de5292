# SPDX-License-Identifier: Apache-2.0
"""What the tests of Ray share."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Make scale_envs importable by name, here and in processes that are started from here."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv('PYTHONPATH', folder, prepend=':')
