#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes ``config/*.yaml`` and the README's parameter tables from the parameter classes.

With ``--check`` nothing is written; the exit status is 1 if something would change.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

from marked import renewed

from td3_agent.driving.parameters import Params, describe
from td3_agent.nodes.route_node import RouteNodeParams
from td3_agent.nodes.sim_bridge_params import SimBridgeParams
from td3_agent.nodes.synchronizer_node import SynchronizerParams
from td3_agent.nodes.td3_agent_params import Td3AgentParams
from td3_agent.nodes.twist_to_control_node import TwistToControlParams

ROOT = Path(__file__).resolve().parents[1]
NODES: dict[str, type[Params]] = {
    'td3_agent_node': Td3AgentParams,
    'twist_to_control_node': TwistToControlParams,
    'synchronizer_node': SynchronizerParams,
    'route_node': RouteNodeParams,
    'sim_bridge_node': SimBridgeParams,
}


def yaml_text(name: str, cls: type[Params]) -> str:
    """Return the configuration file of a node: every parameter with its default."""
    lines = [
        '# SPDX-License-Identifier: Apache-2.0',
        f'# Parameters of {name}; written by scripts/parameter_tables.py.',
        '/**:',
        '  ros__parameters:',
    ]
    for key, default, unit, allowed, text in describe(cls):
        about = allowed or (f'[{unit}]' if unit else '')
        lines += [f'    # {text}' + (f'; {about}' if about else ''), f'    {key}: {default}']
    return '\n'.join(lines) + '\n'


def table_text(cls: type[Params]) -> str:
    """Return a Markdown table of a node's parameters."""
    rows = ['| parameter | default | allowed | meaning |', '|---|---|---|---|']
    for key, default, _, allowed, text in describe(cls):
        shown = allowed.replace('|', '\\|')
        rows.append(f'| `{key}` | `{default}` | {shown} | {text} |')
    return '\n'.join(rows)


def with_tables(readme: str) -> str:
    """Return the README with the text between its table markers renewed.

    Raises:
        ValueError: a node's markers are missing.
    """
    for name, cls in NODES.items():
        readme = renewed(readme, f'parameters of {name}', table_text(cls))
    return readme


def wanted_files() -> dict[Path, str]:
    """Return every generated file with the text it should have."""
    files = {ROOT / 'config' / f'{name}.yaml': yaml_text(name, cls) for name, cls in NODES.items()}
    readme = ROOT / 'README.md'
    if readme.exists():
        files[readme] = with_tables(readme.read_text(encoding='utf-8'))
    return files


def main() -> int:
    """Write or check; return the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--check', action='store_true', help='write nothing')
    check = arguments.parse_args().check
    stale = [
        (path, text)
        for path, text in wanted_files().items()
        if not path.exists() or path.read_text(encoding='utf-8') != text
    ]
    for path, text in stale:
        sys.stdout.write(f'{"stale" if check else "written"}: {path.relative_to(ROOT)}\n')
        if not check:
            path.write_text(text, encoding='utf-8')
    return 1 if check and stale else 0


if __name__ == '__main__':
    sys.exit(main())
