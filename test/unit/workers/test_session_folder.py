# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Ray's sockets fit into their 107 bytes, however long TMPDIR is."""

import tempfile

import pytest

pytest.importorskip('ray', reason='needs Ray: pip install -r requirements/ray.in')

from td3_agent.training.ray_session import LONGEST_TEMPORARY_FOLDER, session_folder

SOCKET = '/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store.99'


@pytest.mark.parametrize('too_long', [0, 1, 60])
def test_sockets_fit(too_long, monkeypatch):
    padding = LONGEST_TEMPORARY_FOLDER + too_long - len('/tmp/')
    monkeypatch.setattr(tempfile, 'tempdir', f'/tmp/{"x" * padding}')
    monkeypatch.setattr(tempfile, 'TemporaryDirectory', lambda **where: where['dir'])
    folder = session_folder()
    assert folder == ('/tmp' if too_long else tempfile.tempdir)
    assert len(f'{folder}/ray_abcdefgh{SOCKET}') <= 107
