# SPDX-License-Identifier: Apache-2.0
"""Loads a map from outside in a child process first, because ``carla.Map`` can crash.

Some damaged OpenDRIVE files pass every reasonable check and still end ``carla.Map`` in a
segmentation fault or an endless loop. In a child process that is an exit code; here it would be
the end of a training run.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from td3_agent.sim.opendrive import MapError

TRIAL_LIMIT_S = 300.0
# The child finds its modules where this process does; refusals are left to the parent.
CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from td3_agent.sim.opendrive import MapError
from td3_agent.sim.road import RoadMap
try:
    RoadMap('trial', sys.stdin.read())
except MapError:
    pass
"""


def survive_loading(name: str, opendrive: str, limit_s: float = TRIAL_LIMIT_S) -> None:
    """Load a map in a child process and see whether it comes back.

    Args:
        name: for the error.
        opendrive: OpenDRIVE text.
        limit_s: wall time the child is given [s].

    Raises:
        MapError: the child crashed or did not finish in time.
    """
    command = [sys.executable, '-c', CHILD, json.dumps(sys.path)]
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and a constant program
            command,
            input=opendrive.encode(),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MapError(f'map {name!r}: carla.Map did not finish within {limit_s:g} s') from None
    refuse_failed(name, done.returncode, done.stderr)


def refuse_failed(name: str, status: int, said: bytes) -> None:
    """Refuse a map whose child process has failed.

    Args:
        name: of the map.
        status: exit status of the child, negative: the signal that ended it.
        said: what it wrote to its standard error.

    Raises:
        MapError: the child crashed or could not work.
    """
    if status < 0:
        cause = signal.Signals(-status).name
        raise MapError(f'map {name!r} is damaged: carla.Map crashed on it ({cause})')
    if status > 0:
        reason = said.decode(errors='replace').strip().splitlines()[-1:]
        raise MapError(f'map {name!r} could not be tried out: {" ".join(reason)}')
