# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Starts node programs by forking a process that has imported what they need.

The four nodes of a drive take more than two seconds of processor time for their imports, and the
tests drive more than fifty times. Programs of the command line start their nodes as always.
"""

from importlib import import_module
import multiprocessing
import os
import subprocess
import sys

from td3_agent.starting import begin

PROGRAMS = [
    f'td3_agent.nodes.{name}_node' for name in ('sim_bridge', 'synchronizer', 'td3_agent', 'gate')
]
FORK_SERVER = multiprocessing.get_context('forkserver')
FORK_SERVER.set_forkserver_preload([*PROGRAMS, 'torch'])
PYTHONPATH = os.environ.get('PYTHONPATH')


def start(command, *, stdout, env, **options):
    """Do what ``subprocess.Popen`` does, by a fork where the command is one of our nodes."""
    python, *words = command
    is_ours = python == sys.executable and words[0] == '-m' and words[1] in PROGRAMS
    if is_ours and env.get('PYTHONPATH') == PYTHONPATH:
        return Forked(words[1], words[2:], stdout.name, dict(env))
    return subprocess.Popen(command, stdout=stdout, env=env, **options)


class Forked:
    """The part of ``subprocess.Popen`` that process groups use."""

    def __init__(self, *program):
        self.args = program
        self._process = FORK_SERVER.Process(target=run, args=program)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self):
        self._process.terminate()

    def kill(self):
        self._process.kill()


def run(program, arguments, log_path, environment):
    """Be a node program: in a session of its own, with output, environment and arguments."""
    os.setsid()
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    begin()
    import_module(program).main()
