# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A test that hangs ends the run, whatever holds the interpreter."""

from pathlib import Path
import signal
import subprocess
import sys

# As a library does that waits for a lock and has not let go of the interpreter.
PROGRAM = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
import conftest
conftest.LONGEST_S = 0.2
next(conftest.pytest_runtest_protocol(None))
ctypes.PyDLL(None).sleep(60)
"""


def test_hanging_test_is_ended_by_the_kernel():
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, '-c', PROGRAM, tests], check=False, timeout=50.0)
    assert done.returncode == -signal.SIGALRM
