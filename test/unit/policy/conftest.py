# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A good checkpoint, and a copy to break."""

from pathlib import Path
import shutil

from harness.checkpoints import IMAGE, NAME, STATE, save
import pytest

from td3_agent.policy.checkpoint import load_checkpoint


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """One good checkpoint; tests copy it before they break it."""
    path = tmp_path_factory.mktemp('good') / NAME
    save(path)
    return path


@pytest.fixture(scope='module')
def good_action(good):
    """What the good policy answers."""
    return load_checkpoint(good)[0].action(STATE, IMAGE)


@pytest.fixture
def broken(good, tmp_path):
    return Path(shutil.copy(good, tmp_path / NAME))
