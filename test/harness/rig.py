# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What tests of a whole drive work with: a ROS domain, node processes, a watcher, and P0.

P0 holds in every case: no uncaught exception, no silence of more than 2 s, no command that is not
finite or out of range, and a ledger without gaps. That diagnostics name the fault in time and that
things recover, a case checks itself.
"""

from contextlib import ExitStack
from itertools import islice
import os
from pathlib import Path
import re
import signal
import sys
import time

from harness.messages import ROLE
from harness.ros import Ros
from harness.watcher import Watcher
import pytest

from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.driving.loop import ledger_records
from td3_agent.evaluation.direct_episodes import direct_drive
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, make_simulator
from td3_agent.processes import (
    ProcessGroup,
    composed_command,
    free_domain_id,
    node_command,
    ros_environment,
)

BRIDGE, GATE = 'sim_bridge_node', 'gate_node'
AGENT, SYNCHRONIZER = 'td3_agent_node', 'synchronizer_node'
NODES = (BRIDGE, GATE, AGENT, SYNCHRONIZER)
NODE_NAMES = {  # as diagnostics call them
    BRIDGE: 'carla_ros_bridge',
    GATE: 'gate',
    AGENT: 'td3_agent',
    SYNCHRONIZER: 'synchronizer',
}
PYTHON = [sys.executable, '-m']
PATIENCE_S = 60.0
REPORT_S = 4.0  # for what must come within a second
LONGEST_SILENCE_S = 2.0
LONGEST_STOP_S = 0.5
LONGEST_NAMING_S = 1.0
GOOD_FRAMES = 20
CONTIGUOUS = ('file', 'chain', 'frames', 'stamps')  # findings of an audit
ANSWERED = (*CONTIGUOUS, 'outcomes', 'commands', 'applied')
WHOLE = (*ANSWERED, 'events', 'hashes', 'stages')
UNCAUGHT = re.compile(r'^Traceback \(most recent call last\)|^Fatal Python error', re.MULTILINE)
FREE_RUNNING = {  # the bridge plays in real time, and waits for no command
    BRIDGE: {'start_paused': False, 'synchronous_mode_wait_for_vehicle_control_command': False},
    GATE: {'mode': 'free_running'},
    AGENT: {'mode': 'free_running'},
}


class Rig:
    """Processes in a domain of their own; closing it ends every one.

    Attributes:
        folder: for logs, ledgers and files of the case.
        seed: of every draw.
        count: number of frames, messages or cycles; None: the case's own.
        quick: whether the short version of the case is wanted.
        patience: factor on limits in seconds; above 1 where other work runs beside.
        python: words before the name of a module that is a program.
        environment: of processes that start from now on.
        prefix: words before every command line from now on.
        words: after the command line of a node program, by program.
        figures: what the case has measured, by name; units are part of the names.
    """

    def __init__(  # noqa: PLR0913  what a run is asked for
        self, folder, *, seed=0, count=None, quick=False, patience=1.0, python=PYTHON
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.seed, self.count, self.quick = folder, seed, count, quick
        self.patience, self.python = patience, python
        self.domain_id = free_domain_id()
        self.environment = ros_environment(self.domain_id)
        self.prefix, self.words, self.figures = [], {}, {}
        self._stack = ExitStack()
        self.group = self._stack.enter_context(ProcessGroup(folder, self.environment))
        self._expected, self._watcher = {}, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._continue_all()
        self._stack.close()

    # Who is there

    @property
    def watcher(self):
        """Records everything, from the first use on."""
        if self._watcher is None:
            self._watcher = self._stack.enter_context(Watcher(self.domain_id))
        return self._watcher

    def nodes(self, domain_id=None):
        """Return nodes within this process, in a domain of their own unless one is given."""
        return self._stack.enter_context(Ros(domain_id or free_domain_id()))

    def start(self, name, command, statuses=()):
        """Start a program with a log of its own; a second one of a name gets a number.

        ``statuses`` are those with which it may end; none: the usual ones.
        """
        taken = [node.name.partition('#')[0] for node in self.group.nodes].count(name)
        node = self.group.run(f'{name}#{taken + 1}' if taken else name, [*self.prefix, *command])
        if statuses:
            self._expected[node.process.pid] = set(statuses)
        return node

    def start_node(self, name, parameters, namespace=''):
        """Start a node program with these parameters alone."""
        command = [*self.python, *node_command(name, parameters, namespace)[len(PYTHON) :]]
        command += self.words.get(name, ())
        return self.start(f'{name}.{namespace}' if namespace else name, command)

    def drive(self, *, start=NODES, parameters=None):
        """Return the nodes of a drive.

        Args:
            start: programs to start here, in this order.
            parameters: on top of the usual ones, by program.
        """
        _ = self.watcher  # before the nodes: it misses nothing of theirs
        drive = Drive(self, parameters or {})
        for name in start:
            drive.start(name)
        return drive

    # Waiting

    def wait_for(self, condition, what, patience_s=PATIENCE_S):
        """Return what ``condition`` gives once that is true; fail where it is not in time [s].

        Fails at once when a process has ended that should not.
        """
        found = self.watcher.wait_for(condition, patience_s, self._look_for_dead)
        if not found:
            pytest.fail(f'{what}: expected within {patience_s:g} s, and did not come')
        return found

    def wait_named(self, since_ns, node, *words, patience_s=REPORT_S):
        """Return how long after a time [ns] a program has named a fault [s]; None if not."""
        name = NODE_NAMES.get(node, node)
        found = self.watcher.wait_for(
            lambda: self.watcher.named(since_ns, name, *words), patience_s, self._look_for_dead
        )
        return (found.at_ns - since_ns) / 1e9 if found else None

    def pause(self, duration_s):
        """Let things happen for a while [s], watching that no process ends."""
        end_s = time.monotonic() + duration_s
        self.watcher.wait_for(
            lambda: time.monotonic() >= end_s, duration_s + 1.0, self._look_for_dead
        )

    def wait_good(self, frames=GOOD_FRAMES, patience_s=PATIENCE_S):
        """Wait until so many frames from now on have the agent's answer."""
        since_ns = time.monotonic_ns()
        self.wait_for(
            lambda: self.watcher.outcomes(since_ns).count('ok') >= frames,
            f'{frames} frames answered by the agent',
            patience_s,
        )

    # Expecting

    def in_time(self, what, found_s, limit_s):
        """Expect a time [s]; limits are for a machine without other work."""
        limit_s *= self.patience
        told = 'it did not come' if found_s is None else f'{found_s:.3f} s'
        assert found_s is not None and found_s <= limit_s, f'{what}: {told}, not <= {limit_s:g} s'  # noqa: PT018

    def expect_stop(self, since_ns, what='stop'):
        """Expect that the car is stopped in time."""
        watcher = self.watcher
        watcher.wait_for(lambda: watcher.stop_delay_s(since_ns) is not None, REPORT_S)
        delay_s = watcher.stop_delay_s(since_ns)
        self.in_time(f'{what} after', delay_s, LONGEST_STOP_S)
        self.figures[f'{what}_s'] = delay_s

    def expect_named(self, since_ns, node, *words, limit_s=LONGEST_NAMING_S, what='named'):
        """Expect that a program names the fault in time."""
        named_s = self.wait_named(since_ns, node, *words, patience_s=max(REPORT_S, limit_s))
        self.in_time(f'{node} says "{" ".join(words)}" after', named_s, limit_s)
        self.figures[f'{what}_s'] = named_s

    def expect_single_steps(self):
        """Expect that the bridge ticked when it was asked to, and at no other time."""
        for key in ('uninvited', 'skipped'):
            assert self.watcher.value('synchronizer', key) == '0', f'{key} frames'

    # Ending

    def signal(self, node, number, *statuses):
        """Send a signal; return when [ns, steady].

        ``statuses`` are those with which the process may end of it; none: it must not end.
        """
        if statuses:
            self._expected[node.process.pid] = set(statuses)
        now_ns = time.monotonic_ns()
        node.process.send_signal(number)
        return now_ns

    def kill(self, node):
        """Kill a process with SIGKILL; return when [ns, steady]."""
        now_ns = self.signal(node, signal.SIGKILL, -signal.SIGKILL)
        node.process.wait()
        return now_ns

    def _continue_all(self):
        for node in self.group.nodes:  # a stopped process cannot end
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)

    def _is_unexpected(self, node):
        """Whether a process has ended as it should not; a violation in its ledger gives 1."""
        usual = {0, 1} if node.name.startswith(SYNCHRONIZER) else {0}
        status = node.process.poll()
        return status is not None and status not in self._expected.get(node.process.pid, usual)

    def _look_for_dead(self):
        for node in self.group.nodes:
            if self._is_unexpected(node):
                status = node.process.returncode
                pytest.fail(f'{node.name} ended with {status}: {node.last_output()}')

    def p0(self, since_ns=None, before_ns=None, longest_silence_s=LONGEST_SILENCE_S):
        """End everything, and expect P0; silences count since ``since_ns`` [ns, steady]."""
        before_ns = before_ns or time.monotonic_ns()
        self._continue_all()
        self.group.end()
        ended = [
            f'{n.name} {n.process.returncode}' for n in self.group.nodes if self._is_unexpected(n)
        ]
        assert not ended, f'P0 exit statuses: {ended}'
        assert not self.uncaught(), f'P0 uncaught exceptions: {self.uncaught()}'
        if self._watcher is not None:
            bad = self._watcher.bad_commands()
            assert not bad, f'P0 commands out of range: {bad[:3]}'
            if since_ns is not None:
                found_s = self._watcher.longest_silence_s(since_ns, before_ns)
                self.in_time('P0 longest silence', found_s, longest_silence_s)

    def uncaught(self):
        """Return the logs in which a program has reported an uncaught exception."""
        texts = {
            path.name: path.read_text(encoding='utf-8', errors='replace')
            for path in sorted(self.folder.glob('*.log'))
        }
        return [
            f'{name}: {text.splitlines()[-1][:120]}'
            for name, text in texts.items()
            if UNCAUGHT.search(text)
        ]


class Drive:
    """The nodes of a drive, each of which can be started again with the same parameters."""

    role = ROLE

    def __init__(self, rig, extra):
        self._rig, self._extra = rig, extra
        self.nodes = {}  # the newest process of each program
        self.ledger_paths = []  # of each synchronizer

    def parameters(self, name):
        """Return the parameters of a program."""
        usual = {
            BRIDGE: {'role_names': [ROLE], 'start_paused': True, 'spawn_index': 0, 'map': 'oval'},
            GATE: {'role_name': ROLE},
            AGENT: {'role_name': ROLE, 'driver': 'pure_pursuit'},
            SYNCHRONIZER: {'role_names': [ROLE], 'pause_timeout_s': 1.1},
        }
        return {**usual[name], **self._extra.get(name, {})}

    def start(self, name, **more):
        """Start one, for the first time or again; each synchronizer has a ledger of its own."""
        parameters = {**self.parameters(name), **more}
        if name == SYNCHRONIZER:
            path = self._rig.folder / f'ledger_{len(self.ledger_paths)}.jsonl'
            path = parameters.setdefault('ledger_path', str(path))
            self.ledger_paths.append(Path(path))
        self.nodes[name] = self._rig.start_node(name, parameters)
        return self.nodes[name]

    def start_composed(self):
        """Start agent, gate and synchronizer in one process, in place of three."""
        path = self._rig.folder / f'ledger_{len(self.ledger_paths)}.jsonl'
        self.ledger_paths.append(path)
        names = (AGENT, GATE, SYNCHRONIZER)
        parameters = {NODE_NAMES[name]: self.parameters(name) for name in names}
        parameters[NODE_NAMES[SYNCHRONIZER]]['ledger_path'] = str(path)
        node = self._rig.start('composed_node', composed_command(parameters))
        self.nodes |= dict.fromkeys(names, node)

    def kill(self, name):
        """Kill one; return when [ns, steady]."""
        return self._rig.kill(self.nodes[name])

    def wait_until_over(self):
        """Wait until the synchronizer has ended by itself."""
        process = self.nodes[SYNCHRONIZER].process
        patience_s = PATIENCE_S * self._rig.patience
        self._rig.wait_for(lambda: process.poll() is not None, 'the end of the drive', patience_s)

    def direct_ledger(self, frames):
        """Return the ledger of the same drive in one process, without ROS."""
        bridge, agent = self.parameters(BRIDGE), self.parameters(AGENT)
        world = make_simulator(
            SimBridgeParams(map=bridge['map'], spawn_index=bridge['spawn_index'])
        )
        words = {key: value for key, value in agent.items() if key in {'driver', 'policy'}}
        steps = direct_drive(world, make_driver(DriverParams(**words)))
        return list(ledger_records(islice(steps, frames)))

    def finish(self, *findings, since_ns=None, **options):
        """End everything, expect P0, and return the audit of the newest ledger."""
        self._rig.p0(since_ns, **options)
        return audited(self.ledger_paths[-1], *findings)


def audited(path, *findings):
    """Return the audit of a ledger whose writer has ended; it must have no fault in these."""
    audit = audit_ledger(path)
    for name in findings or CONTIGUOUS:
        faults = audit.checks[name].faults
        assert not faults, f'P0 ledger {name}: {faults[:3]}'
    return audit


def load_per_core():
    """Return how busy the machine is, 1.0 with a process for every core."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)
