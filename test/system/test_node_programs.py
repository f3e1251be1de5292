# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""However a node program ends, it ends soon and with the status that is true.

And it keeps the memory of its images. With either executor, where rclpy has both.
"""

import signal
import subprocess
import sys

import pytest

from td3_agent.nodes.runtime import EXECUTOR_VARIABLE, executors, make_executor
from td3_agent.processes import free_domain_id, ros_environment

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
        self.timer = self.create_timer(0.01, self.work)

    def work(self):
        print('working', flush=True)
        {work}

    def close(self):
        print('last word')

    def destroy_node(self):
        {clean_up}

run_program(Ending)
"""


@pytest.fixture(params=['events', 'single_threaded'])
def start(request):
    """Return a function that starts a node program; whatever is left of it is ended."""
    if request.param not in executors():
        pytest.skip(f'this rclpy has no {request.param} executor')
    programs, domain = [], free_domain_id()
    environment = {**ros_environment(domain), EXECUTOR_VARIABLE: request.param}

    def started(work='pass', clean_up='super().destroy_node()'):
        text = PROGRAM.format(work=work, clean_up=clean_up)
        programs.append(
            subprocess.Popen(
                [sys.executable, '-c', text],
                env=environment,
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


def test_broken_callback_is_reported_after_closing(start):
    program = start(work="raise KeyError('what broke')", clean_up='threading.Event().wait()')
    output, _ = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 1
    assert "KeyError: 'what broke'" in output
    assert output.endswith('last word\n')


def test_program_sleeps_while_there_is_nothing_to_do(start):
    """Without a time limit, the events executor of rclpy 7.1 asks for the time for ever."""
    count = """self.count = getattr(self, 'count', 0) + 1
        import time
        now = (time.monotonic(), time.process_time())
        if self.count == 1:
            self.timer.timer_period_ns = 1_000_000_000
            self.begun = now
        if self.count == 3:
            print('share', (now[1] - self.begun[1]) / (now[0] - self.begun[0]), flush=True)
            self.finished.set_result(None)"""
    output, _ = start(work=count).communicate(timeout=PATIENCE_S)
    share = float(output.partition('share ')[2].split()[0])
    assert share < 0.5


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='of glibc')
def test_pages_of_images_are_not_cleared_again_and_again(start):
    measure = """import ctypes, resource
        import numpy as np
        faults = [0]
        for _ in range(40):
            np.ones(2**20)  # 8 MB, 2048 pages
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        known = hasattr(ctypes.CDLL(None), 'mallopt')
        print('faults', faults[-1] - faults[20] if known else 0, flush=True)
        self.finished.set_result(None)"""
    output, _ = start(work=measure).communicate(timeout=PATIENCE_S)
    assert int(output.partition('faults ')[2].split()[0]) < 2048


def test_unknown_executor_is_rejected(monkeypatch):
    monkeypatch.setenv(EXECUTOR_VARIABLE, 'fast')
    with pytest.raises(
        ValueError, match=r"TD3_AGENT_EXECUTOR must be .*single_threaded .*got 'fast'"
    ):
        make_executor()
