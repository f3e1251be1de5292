# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of the tests: a case fails when its guard is removed from the product.

One for each thing that cases look at, be it in this process or in node programs.
"""

from pathlib import Path
import sys

from faults import (
    test_bad_messages,
    test_bad_policies,
    test_fuzz,
    test_graph,
    test_machine,
    test_messages,
    test_process_faults,
    test_training_faults,
)
from faults.patched import replacement
from harness.rig import Rig
import pytest

pytestmark = [pytest.mark.system, pytest.mark.nightly]
PATCHED = Path(__file__).with_name('patched.py')
FAILURES = (AssertionError, pytest.fail.Exception)
NOTHING = 'lambda *_, **__: None'
GUARDS = [  # a case, what is replaced, by what, and the words with which the case fails
    (
        test_process_faults.test_agent_killed,
        'driving.gate.Gate.due_ns',
        'property(lambda _: None)',
        'stop after',
    ),
    (
        test_process_faults.test_synchronizer_killed,
        'driving.watchdog.IdleStopTimer.answered',
        NOTHING,
        'stop',
    ),
    (
        test_process_faults.test_asked_to_end,
        'nodes.gate_node.GateNode.close',
        NOTHING,
        'the last command',
    ),
    (
        test_messages.test_messages_lost,
        'driving.gate.Gate.idle_stop',
        'lambda self: self.converter.stopped()',
        'ended before their',
    ),
    (
        test_machine.test_disk_full_of_ledger,
        'driving.synchronizer.DriveLedger._end',
        'lambda _, error: (_ for _ in ()).throw(error)',
        'ended with 1',
    ),
    (
        test_machine.test_other_middleware,
        'driving.readiness.StepReadiness.absent',
        'property(lambda _: [], lambda *_: None)',
        'first_difference',
    ),
    (
        test_bad_messages.test_odometry_not_finite,
        'driving.vehicle.VehicleState.__post_init__',
        NOTHING,
        'rejected by name',
    ),
    (
        test_bad_messages.test_image_sizes,
        'driving.observation.ImageView.__post_init__',
        NOTHING,
        '',
    ),
    (
        test_bad_policies.test_checkpoint_damaged,
        'policy.checkpoint.hashlib.sha256',
        'lambda *_: mock.Mock(hexdigest=lambda: mock.ANY)',
        'one bit',
    ),
    (
        test_bad_policies.test_policy_misbehaves,
        'driving.responder.FrameResponder.fault',
        "property(lambda _: '', lambda *_: None)",
        'diagnosed',
    ),
    (
        test_graph.test_intruders,
        'nodes.wiring.Connections.status',
        "lambda _: Status('all is well')",
        'is named',
    ),
    (test_graph.test_parameters_rejected, 'driving.parameters.Params.__post_init__', NOTHING, ''),
    (
        test_graph.test_parameters_changed,
        'nodes.parameters.ParameterDescriptor',
        "lambda **words: ParameterDescriptor(**words | {'read_only': False})",
        '',
    ),
    (
        test_graph.test_lifecycle,
        'nodes.td3_agent_node.STOP',
        'mock.Mock(linear_x=5.0, angular_z=0.0)',
        'the last command',
    ),
    (
        test_graph.test_lifecycle,
        'nodes.td3_agent_node.Td3AgentNode._close_link',
        NOTHING,
        '',
    ),
    (test_graph.test_time_starts_over, 'driving.responder.JUMP_BACK_NS', '1 << 62', ''),
    (
        test_fuzz.test_random_bytes,
        'nodes.wiring.Rejections._handle',
        'lambda self, topic, handler, msg: handler(msg)',
        'P0',
    ),
    (
        test_training_faults.test_training_killed,
        'training.acting.Explorer.restore',
        NOTHING,
        'bit by bit',
    ),
    (test_training_faults.test_simulator_dies, 'training.envs.FAILURES', '()', ''),
]


@pytest.mark.parametrize(('case', 'place', 'expression', 'words'), GUARDS)
def test_case_fails_without_a_guard(  # noqa: PLR0913  a row of the table each
    tmp_path, monkeypatch, case, place, expression, words
):
    monkeypatch.setattr(*replacement(place, expression), raising=False)
    monkeypatch.setattr('harness.ros.DEADLINE_S', 6.0)
    monkeypatch.setattr(test_graph, 'NAMED_S', 2.0)
    monkeypatch.setattr(test_graph, 'CALM_S', 0.5)
    errors = (Exception, *FAILURES) if not words else FAILURES  # some only break the node
    python = [sys.executable, str(PATCHED), place, expression]
    with (
        Rig(tmp_path, quick=True, python=python) as rig,
        pytest.raises(errors, match=words or None),
    ):
        case(rig)
