# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself: at once when it changes, and no more work than that."""

from td3_agent.driving.reports import Status
from td3_agent.nodes.diagnostics import Diagnostics


def values_of(status):
    return {pair.key: pair.value for pair in status.values}.items()


def test_figures_are_asked_for_only_when_something_is_published(ros, diagnosed):
    asked, standing = [], [Status('well', values={'frames': 3})]

    def figures():
        asked.append(len(asked))
        return {'gate_p50_ms': 1.5}

    diagnostics = Diagnostics(ros.peer, lambda: standing[0], figures)
    for _ in range(100):
        diagnostics.changed()
    assert len(asked) == 1
    standing[0] = Status('ill', is_error=True)
    diagnostics.changed()
    assert len(asked) == 2
    standing[0] = Status('well', values={'frames': 4})
    last = {'frames': '4', 'gate_p50_ms': '1.5'}.items()
    ros.spin_until(lambda: (said := diagnosed('peer')) and last <= values_of(said), 'well again')
