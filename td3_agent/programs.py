# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Entry points of the installed programs: install signal handlers, then import the rest.

Like ``__main__``, this file keeps to what Python 3.6 can parse.
"""

from importlib import import_module
import sys

from td3_agent.starting import begin


def td3_agent() -> None:
    """Run the command line."""
    begin()
    import_module('td3_agent.__main__').main()


def route_node() -> None:
    """Run the route planner."""
    _run_node('route_node')


def sim_bridge_node() -> None:
    """Run the embedded bridge."""
    _run_node('sim_bridge_node')


def synchronizer_node() -> None:
    """Run the synchronizer."""
    _run_node('synchronizer_node')


def td3_agent_node() -> None:
    """Run the agent."""
    _run_node('td3_agent_node')


def gate_node() -> None:
    """Run the gate."""
    _run_node('gate_node')


def composed_node() -> None:
    """Run agent, gate and synchronizer in one process."""
    _run_node('composed_node')


def _run_node(name: str) -> None:
    begin()
    try:
        run = import_module('td3_agent.nodes.' + name).main
    except ModuleNotFoundError as error:
        if (error.name or '').startswith('td3_agent'):
            raise
        from td3_agent.doctor.machine_checks import missing_module  # noqa: PLC0415  for errors alone

        sys.stderr.write(f'{name}: {missing_module(error)}\n')
        sys.exit(2)
    run()
