# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the modules of this folder importable: here, and by processes that are started here."""

from pathlib import Path
import sys

import pytest

FOLDER = str(Path(__file__).parent)
sys.path.append(FOLDER)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', FOLDER, prepend=':')
