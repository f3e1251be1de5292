# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs as users start them; a mark in the environment identifies their processes."""

from contextlib import suppress
import os
from pathlib import Path
import re
import subprocess
import sys
import time
import uuid

import psutil
import pytest

MARK = 'TD3_AGENT_TEST'
PATIENCE_S = 240.0  # of a busy machine; a test may take 300 s
LOOK_S = 0.05


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Wait until ``condition()`` holds; fail with ``what`` where it does not in time."""
    end_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end_s:
            pytest.fail(f'not within {patience_s} s: {what}', pytrace=True)
        time.sleep(LOOK_S)


def processes_with(variable, value):
    """Return the processes that have an entry in their environment; ended ones have none."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is not ours
            if process.environ().get(variable) == value:
                found.append(process)
    return found


def is_there(pid):
    """Whether a process runs; one that its parent has not collected does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def resources(pid=None):
    """Return resident memory [MB], open files and threads of a process, by default of this."""
    process = psutil.Process(pid)
    return {
        'rss_mb': process.memory_info().rss / 1e6,
        'fds': process.num_fds(),
        'threads': process.num_threads(),
    }


def shared_memory(pid):
    """Return the files of Fast DDS in shared memory that a process has mapped, with sizes [bytes].

    Those of segments are its own; those of ports and their locks, of all.
    """
    with suppress(OSError):  # it has ended
        maps = Path(f'/proc/{pid}/maps').read_text('utf-8')
        mapped_as = r'^(\w+)-(\w+) .* (/dev/shm/(?:sem\.)?fast(?:rtps|dds)_\w+)'
        found = re.findall(mapped_as, maps, re.MULTILINE)
        return {Path(name): int(end, 16) - int(begin, 16) for begin, end, name in found}
    return {}


class Program:
    """``python -m`` with these words. Its output is text, errors apart from it."""

    def __init__(self, *words, **options):
        self.mark = uuid.uuid4().hex
        environment = options.pop('env', os.environ) | {MARK: self.mark}
        command = [sys.executable, '-m', *map(str, words)]
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes | options)

    def alive(self):
        """Return its processes, those that it has started too."""
        return processes_with(MARK, self.mark)

    def wait_until(self, condition, what):
        """Wait until ``condition()`` holds; fail where the program ends before."""
        wait_until(lambda: self.process.poll() is not None or condition(), what)
        if not condition():
            pytest.fail(f'ended before {what}: {self.process.communicate()}')

    def end(self, number=None):
        """Send a signal if one is given; return exit status, output and errors of the program."""
        if number is not None:
            self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, errors

    def kill(self):
        """Kill what is left of it."""
        for process in self.alive():
            process.kill()
        self.process.communicate()
