# SPDX-License-Identifier: Apache-2.0
"""However a node program ends, it ends soon and with the status that is true."""

import signal
import subprocess
import sys

import pytest

from td3_agent.evaluation.processes import free_domain_id, ros_environment

PATIENCE_S = 60.0
PROGRAM = """
import threading
from rclpy.node import Node
from rclpy.task import Future
from td3_agent.nodes.runtime import run_program

class Ending(Node):
    def __init__(self):
        super().__init__('ending')
        self.finished = Future()
        self.create_timer(0.01, self.work)

    def work(self):
        print('working', flush=True)
        {work}

    def close(self):
        print('last word')

    def destroy_node(self):
        {clean_up}

run_program(Ending)
"""


@pytest.fixture
def start():
    """Return a function that starts a node program; whatever is left of it is ended."""
    programs, domain = [], free_domain_id()

    def started(work='pass', clean_up='super().destroy_node()'):
        text = PROGRAM.format(work=work, clean_up=clean_up)
        programs.append(
            subprocess.Popen(
                [sys.executable, '-c', text],
                env=ros_environment(domain),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return programs[-1]

    yield started
    for program in programs:
        program.kill()
        program.communicate()


def test_asked_again_while_the_middleware_does_not_let_go(start):
    """As happens when a peer was killed while it held a lock in shared memory."""
    program = start(clean_up="print('cleaning', flush=True); threading.Event().wait()")
    assert program.stdout.readline() == 'working\n'
    program.send_signal(signal.SIGINT)
    while program.stdout.readline() != 'cleaning\n':
        assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    assert program.wait(PATIENCE_S) == 0


def test_broken_callback_is_told_and_the_last_word_said(start):
    program = start(work="raise KeyError('what broke')", clean_up='threading.Event().wait()')
    output, _ = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 1
    assert "KeyError: 'what broke'" in output
    assert output.endswith('last word\n')
