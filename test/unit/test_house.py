# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The measures of the source tree are those of the tree."""

import house

FILES = {
    'setup.py': "entry = 'td3_agent.nodes.synchronizer_node'\n",
    'td3_agent/__main__.py': '',
    'td3_agent/programs.py': '',
    'td3_agent/driving/frame.py': 'from rclpy._impl import secret\n',
    'td3_agent/driving/task.py': 'from td3_agent.nodes import wiring\n',
    'td3_agent/nodes/wiring.py': 'from td3_agent.driving.frame import Frame\n',
    'td3_agent/nodes/synchronizer_node.py': (
        'from td3_agent.driving import frame, task\n\n\n'
        'class SynchronizerNode:\n'
        '    def __init__(self):\n'
        '        self._a = self._b = frame\n'
        '        self._a = node._hidden  # noqa: SLF001  rclpy has no name for it\n'
    ),
    'test/test_task.py': 'class MadeUpBridge:\n    pass\n\n\nassert node._hidden == self._own\n',
    'docs/architecture.md': '## The walk of a frame\n`a.py`, `b.py`, `a.py`\n## B\nc.py\n',
    'scripts/setup.sh': 'true\n' * 3,
    'benchmarks/rate.py': 'pass\n' * 2,
}


def test_small_tree(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, 'utf-8')
    tree = house.House(tmp_path)
    rows = {what: figure for what, figure, _ in tree.rows()}
    assert rows['lines in `td3_agent/`'] == 10
    assert rows['modules'] == 6
    assert tree.single_importer() == ['td3_agent.driving.task', 'td3_agent.nodes.wiring']
    assert rows['`benchmarks/` and `scripts/`'] == 5
    assert rows['modules on the walk of a frame'] == 2
    assert rows['attributes of `SynchronizerNode`'] == 2
    assert rows['pairs of sub-packages that import each other'] == 'driving and nodes'
    assert rows['uses of private API of others'] == 2
    assert rows['the same without a reason at the line'] == 1
    assert (rows['fakes of the bridge in tests'], rows['private attributes in tests']) == (1, 1)
