# SPDX-License-Identifier: Apache-2.0
"""Tests of the tests: every case fails when a guard that it is about is taken away."""

import math
import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY

from faults import (
    test_bad_messages,
    test_bad_policies,
    test_fuzz,
    test_graph,
    test_loads,
    test_machine,
    test_messages,
    test_process_faults,
    test_recorder,
    test_training_faults,
    test_vehicles,
)
from faults.rig import Rig
import pytest
from rclpy.node import ParameterDescriptor

from td3_agent.driving.observation import ENCODINGS
from td3_agent.driving.reports import Status
from td3_agent.nodes import conversions
from td3_agent.processes import node_command

pytestmark = [pytest.mark.system, pytest.mark.nightly]
PATCHED = Path(__file__).with_name('patched_node.py')
FAILURES = (AssertionError, pytest.fail.Exception)


def without(guard):
    """Return what gives the command line of a node without one of its guards."""

    def command_of(*arguments):
        python, _, _, *words = node_command(*arguments)
        return [python, str(PATCHED), guard, arguments[0], *words]

    return command_of


def expect_red(folder, case, words, errors=FAILURES, **options):
    """Run a case in its short version, and expect it to fail with these words."""
    with Rig(folder, quick=True, **options) as rig, pytest.raises(errors, match=words or None):
        case(rig)


@pytest.mark.parametrize(
    ('case', 'guard', 'words', 'count'),
    [
        (test_process_faults.test_agent_killed, 'no_deadline', 'stop after', None),
        (test_process_faults.test_synchronizer_killed, 'no_hold', 'stop', None),
        (test_process_faults.test_bridge_killed, 'no_jumps', 'the first good frame', None),
        (test_process_faults.test_process_suspended, 'no_hold', 'stop after', None),
        (test_process_faults.test_asked_to_end, 'no_last_word', 'the last command', None),
        (test_messages.test_messages_lost, 'no_deadline', 'image all: stop after', None),
        (test_messages.test_messages_lost, 'no_answer_in_advance', 'ended before their', None),
        (test_messages.test_messages_doubled, 'no_single_answer', 'commands', None),
        (test_messages.test_images_late, 'no_deadline', 'frames stopped at 0.5 s', None),
        (test_messages.test_messages_out_of_order, 'no_stamps', 'first_difference', None),
        (test_messages.test_clock_jumps, 'no_jumps', 'frames answered by the agent', None),
        (test_machine.test_disk_full_of_ledger, 'no_ledger_guard', 'ended with 1', None),
        (test_machine.test_other_middleware, 'no_waiting', 'first_difference', None),
        (test_vehicles.test_one_of_three_agents_killed, 'no_deadline', 'stop after', None),
        (test_loads.test_lockstep_soak, 'no_end_of_memory', 'growth of memory', 400),
        (test_loads.test_free_running_rate, 'no_steady_pace', 'idle: (ticks|rate)', 3),
        (test_loads.test_slow_reader, 'no_newest_wins', 'pace beside a reliable', 20),
    ],
)
def test_case_fails_without_a_guard_of_a_node(tmp_path, case, guard, words, count):
    expect_red(tmp_path, case, words, command_of=without(guard), count=count)


NO_REJECTION = """
from td3_agent.nodes.wiring import Rejections
Rejections._handle = lambda self, topic, handler, msg: handler(msg)
import sys
from faults.fuzz import main
main(*sys.argv[1:])
"""
FORGETFUL = """
import sys
from td3_agent.training.exploration import Explorer
Explorer.restore = lambda *_: None
from td3_agent.__main__ import main
sys.exit(main())
"""
KEEPING = """
import sys
from td3_agent.bags import record
record.FLUSH_S = 60.0
from td3_agent.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ('module', 'name', 'case', 'program', 'words'),
    [
        (test_fuzz, 'MODULE', 'test_random_bytes', NO_REJECTION, 'P0'),
        (test_training_faults, 'PROGRAM', 'test_training_killed', FORGETFUL, 'bit by bit'),
        (test_recorder, 'PROGRAM', 'test_recorder_killed', KEEPING, 'lost at the end'),
    ],
)
def test_case_fails_with_another_program(  # noqa: PLR0913  a row of the table each
    tmp_path, monkeypatch, module, name, case, program, words
):
    (tmp_path / 'unguarded.py').write_text(program)
    monkeypatch.setattr(module, name, 'unguarded')
    paths = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    monkeypatch.setenv('PYTHONPATH', paths)
    expect_red(tmp_path / 'rig', getattr(module, case), words)


def nothing(*_, **__):
    """Look at nothing, and find no fault."""


def unchecked(header):
    return conversions.stamp_ns(header.stamp)


AGENT_NODE = 'nodes.td3_agent_node'
ANY_HASH = SimpleNamespace(hexdigest=lambda: ANY)
STOP_AT_5_MPS = SimpleNamespace(linear_x=5.0, angular_z=0.0)
ODOMETRY = test_bad_messages.test_odometry_not_finite
GUARDS = [  # a case, what is replaced by what, and the words with which the case fails
    (ODOMETRY, 'driving.vehicle.VehicleState.__post_init__', nothing, 'rejected by name'),
    (ODOMETRY, 'nodes.conversions.header_stamp_ns', unchecked, 'frame_id'),
    (
        test_bad_messages.test_three_bad_odometries_stop_a_free_running_car,
        'driving.answering.FrameAnswerer.on_refused',
        nothing,
        'says why',
    ),
    (
        test_bad_messages.test_image_sizes,
        'driving.observation.ImageView.__post_init__',
        nothing,
        '',
    ),
    (
        test_bad_messages.test_image_sizes,
        'driving.pairing.FramePairer.runs_back',
        lambda *_: True,
        "'height': 42",
    ),
    (
        test_bad_policies.test_checkpoint_damaged,
        'policy.checkpoint.hashlib.sha256',
        lambda *_: ANY_HASH,
        'one bit',
    ),
    (test_bad_policies.test_checkpoint_damaged, 'policy.policy_file.stat.S_IWOTH', 0, 'writable'),
    (
        test_bad_policies.test_policy_misbehaves,
        'driving.answering.FrameAnswerer.trouble',
        property(lambda _: '', nothing),
        'diagnosed',
    ),
    (
        test_graph.test_intruders,
        'nodes.wiring.Connections.status',
        lambda _: Status('all is well'),
        'is named',
    ),
    (test_graph.test_intruders, 'nodes.liveliness.OtherDrivers.fault', lambda _: '', 'decides'),
    (
        test_graph.test_parameters_rejected,
        'driving.parameters.Params.__post_init__',
        nothing,
        '',
    ),
    (
        test_graph.test_parameters_changed,
        'nodes.parameters.ParameterDescriptor',
        lambda **words: ParameterDescriptor(**words | {'read_only': False}),
        '',
    ),
    (test_graph.test_lifecycle, f'{AGENT_NODE}.STOP', STOP_AT_5_MPS, 'the last command'),
    (
        test_graph.test_lifecycle,
        'nodes.td3_agent_node.Td3AgentNode._close_link',
        nothing,
        '',
    ),
    (test_training_faults.test_simulator_dies, 'training.envs.FAILURES', (), ''),
    (test_graph.test_time_begins_anew, 'driving.pairing.JUMP_BACK_NS', 1 << 62, ''),
]


@pytest.mark.parametrize(('case', 'place', 'value', 'words'), GUARDS)
def test_case_fails_without_a_guard(  # noqa: PLR0913  a row of the table each
    tmp_path, monkeypatch, case, place, value, words
):
    monkeypatch.setattr(f'td3_agent.{place}', value, raising=not place.endswith('.trouble'))
    monkeypatch.setattr(conversions, 'MAX_FRAME_ID_CHARACTERS', math.inf)
    monkeypatch.setattr('harness.ros.DEADLINE_S', 6.0)
    monkeypatch.setattr(test_graph, 'NAMED_S', 2.0)
    monkeypatch.setattr(test_graph, 'CALM_S', 0.5)
    errors = (Exception, *FAILURES) if not words else FAILURES  # some only break the node
    expect_red(tmp_path, case, words, errors, count=21)  # one more cycle than the warm-up


def test_case_fails_where_another_encoding_is_known(tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODINGS, '16UC1', (1, (0, 0, 0)))
    expect_red(tmp_path, test_bad_messages.test_image_encodings, 'rejected by name')
