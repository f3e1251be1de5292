# SPDX-License-Identifier: Apache-2.0
"""The rows that run within this process: each passes, and turns red without its guard."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest

from td3_agent.driving import observation
from td3_agent.driving.answering import FrameAnswerer
from td3_agent.driving.observation import ImageView
from td3_agent.driving.pairing import FramePairer
from td3_agent.driving.parameters import Params
from td3_agent.driving.reports import Status
from td3_agent.driving.vehicle import VehicleState
from td3_agent.faults import inside as inside_module
from td3_agent.faults.row import Outcome
from td3_agent.faults.table import table
from td3_agent.nodes import conversions, td3_agent_node
from td3_agent.nodes.liveliness import OtherDrivers
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.nodes.wiring import Connections
from td3_agent.policy import checkpoint, policy_file

pytestmark = [pytest.mark.system, pytest.mark.nightly]
ROWS = {row.name: row for row in table()}


@pytest.fixture
def failed(tmp_path):
    """Return a function that runs the quick version of a row and names what did not hold."""

    def run(name, **options):
        scene = SimpleNamespace(
            **{'folder': tmp_path, 'seed': 0, 'quick': True, 'environment': {}}
            | {'count': FEW.get(name)}
            | options
        )
        try:
            outcome = ROWS[name].run(scene)
        except Exception as error:  # noqa: BLE001  as the command would report it
            outcome = Outcome()
            outcome.check('ran to its end', passed=False, found=repr(error), wanted='')
        assert outcome.checks
        return [check.name for check in outcome.failed]

    return run


def nothing(*_, **__):
    """Look at nothing, and find no fault."""


class Without:
    """Guards, each by what it is: a function that takes it away."""

    @staticmethod
    def state_limits(patch):
        patch.setattr(VehicleState, '__post_init__', nothing)

    @staticmethod
    def frame_id(patch):
        patch.setattr(conversions, 'MAX_FRAME_ID_CHARACTERS', math.inf)
        patch.setattr(
            conversions, 'header_stamp_ns', lambda header: conversions.stamp_ns(header.stamp)
        )

    @staticmethod
    def three_in_a_row(patch):
        patch.setattr(FrameAnswerer, 'on_refused', nothing)

    @staticmethod
    def replay_numbers(patch):
        patch.setattr('td3_agent.td3.replay.np.isfinite', np.ones_like)

    @staticmethod
    def encodings(patch):
        patch.setitem(observation.ENCODINGS, '16UC1', (1, (0, 0, 0)))

    @staticmethod
    def sizes(patch):
        patch.setattr(ImageView, '__post_init__', nothing)

    @staticmethod
    def resolution(patch):
        patch.setattr(FramePairer, 'runs_back', lambda *_: True)

    @staticmethod
    def hashes(patch):
        patch.setattr(
            checkpoint.hashlib, 'sha256', lambda *_: SimpleNamespace(hexdigest=lambda: '0' * 64)
        )

    @staticmethod
    def header(patch):
        patch.setattr(policy_file, '_tensor_faults', lambda *_: [])

    @staticmethod
    def world_writable(patch):
        patch.setattr(policy_file.stat, 'S_IWOTH', 0)

    @staticmethod
    def slow_driver(patch):
        patch.setattr(FrameAnswerer, 'trouble', property(lambda _: '', nothing), raising=False)

    @staticmethod
    def connections(patch):
        patch.setattr(Connections, 'status', lambda _: Status('all is well'))

    @staticmethod
    def rivals(patch):
        patch.setattr(OtherDrivers, 'fault', lambda _: '')

    @staticmethod
    def parameter_limits(patch):
        patch.setattr(Params, '__post_init__', nothing)

    @staticmethod
    def read_only(patch):
        patch.setattr(
            'td3_agent.nodes.parameters.ParameterDescriptor',
            lambda **words: inside_module.rclpy.node.ParameterDescriptor(
                **words | {'read_only': False}
            ),
        )

    @staticmethod
    def illegal_transitions(patch):
        patch.setattr(td3_agent_node, 'refuse_illegal_transitions', nothing)

    @staticmethod
    def last_word(patch):
        patch.setattr(td3_agent_node, 'STOP', td3_agent_node.STOP.__class__(5.0, 0.0))

    @staticmethod
    def clean_up(patch):
        patch.setattr(Td3AgentNode, '_destroy_entities', nothing)

    @staticmethod
    def time_jumps(patch):
        patch.setattr('td3_agent.driving.pairing.JUMP_BACK_NS', 1 << 62)

    @staticmethod
    def caught_failures(patch):
        patch.setattr('td3_agent.training.envs.FAILURES', ())


@pytest.mark.parametrize(
    ('name', 'guard', 'words'),
    [
        ('F10', Without.state_limits, 'refused by name'),
        ('F10', Without.frame_id, 'frame_id'),
        ('F10', Without.three_in_a_row, 'says why'),
        ('F12', Without.encodings, 'encoding'),
        ('F13', Without.sizes, ''),
        ('F13', Without.resolution, "'height': 42"),
        ('F14', Without.hashes, ''),
        ('F14', Without.header, ''),
        ('F14', Without.world_writable, 'writable by everyone'),
        ('F15', Without.slow_driver, 'diagnosed'),
        ('F18', Without.connections, 'is named'),
        ('F18', Without.rivals, ''),
        ('F10', Without.replay_numbers, 'replay'),
        ('F20', Without.parameter_limits, ''),
        ('F20', Without.read_only, ''),
        pytest.param(
            'F21',
            Without.illegal_transitions,
            '',
            marks=pytest.mark.skipif(
                os.environ.get('ROS_DISTRO') not in {'humble', 'iron', 'jazzy'},
                reason='from Kilted on rclpy answers them by itself',
            ),
        ),
        ('F21', Without.last_word, 'last word'),
        ('F21', Without.clean_up, ''),
        ('F24', Without.caught_failures, ''),
        ('L5', Without.time_jumps, ''),
    ],
    ids=lambda value: getattr(value, '__name__', value),
)
def test_row_turns_red_without_its_guard(name, guard, words, failed, monkeypatch):
    monkeypatch.setattr('td3_agent.faults.inside.PATIENCE_S', 6.0)
    monkeypatch.setattr('td3_agent.faults.rows_graph.NAMED_S', 2.0)
    monkeypatch.setattr('td3_agent.faults.rows_graph.CALM_S', 0.5)
    guard(monkeypatch)
    found = failed(name)
    assert any(words in check for check in found) or found == ['ran to its end'], found


NO_REFUSALS = """
from td3_agent.nodes.wiring import Rejections
Rejections._handle = lambda self, topic, handler, msg: handler(msg)
from td3_agent.faults.fuzz import main
main()
"""
FORGETFUL = """
import sys
from td3_agent.training.exploration import Explorer
Explorer.restore = lambda *_: None
from td3_agent.__main__ import main
sys.exit(main())
"""
UNGUARDED = {
    'F22': ('rows_fuzz.MODULE', NO_REFUSALS),
    'F23': ('rows_training.PROGRAM', FORGETFUL),
}
FEW = {'L5': 21, 'F21': 21}  # cycles, one more than it takes to warm up


@pytest.mark.parametrize('name', UNGUARDED)
def test_row_of_processes_turns_red_without_its_guard(name, failed, tmp_path, monkeypatch):
    place, program = UNGUARDED[name]
    (tmp_path / 'unguarded.py').write_text(program)
    monkeypatch.setattr(f'td3_agent.faults.{place}', 'unguarded')
    paths = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    found = failed(name, environment=dict(os.environ, PYTHONPATH=paths))
    words = ('exceptions', 'the nodes live', 'bit by bit')
    assert any(word in check for check in found for word in words), found
