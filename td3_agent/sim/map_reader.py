# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Loads maps from outside in a child process, because ``carla.Map`` can crash, and takes seconds.

Some damaged OpenDRIVE files pass every reasonable check and still end ``carla.Map`` in a
segmentation fault or an endless loop. In a child process that is an exit code; here it would be
the end of a training run. It also holds the interpreter for seconds where a town is large.
"""

from __future__ import annotations

from dataclasses import replace
import json
import pickle
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.sim.opendrive import MapError, checked

if TYPE_CHECKING:
    from td3_agent.sim.road_graph import RoadGraph

TRIAL_LIMIT_S = 300.0
# The child finds its modules where this process does. Whatever libraries print must not get in
# between: what is sent back has the output for itself.
CHILD = """
import json, os, pickle, sys
answer = os.fdopen(os.dup(1), 'wb')
os.dup2(2, 1)
sys.path[:] = json.loads(sys.argv[1])
from td3_agent.sim import map_reader
from td3_agent.sim.opendrive import MapError
try:
    read = getattr(map_reader, sys.argv[2])
    found = read(sys.argv[3], sys.stdin.buffer.read().decode())
except MapError as error:
    found = str(error)
answer.write(pickle.dumps(found))
answer.close()
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
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and a constant program
            _command('load_map_alone', name),
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


def _command(function: str, name: str) -> list[str]:
    """Return the command that calls a function of this module with the text of its input."""
    return [sys.executable, '-c', CHILD, json.dumps(sys.path), function, name]


def load_map_alone(name: str, opendrive: str) -> None:
    """Load a map and forget it: what a child does for :func:`survive_loading`."""
    from td3_agent.sim.road import RoadMap  # noqa: PLC0415  carla is for the child alone

    RoadMap(name, opendrive)


def read_graph(name: str, opendrive: str) -> RoadGraph:
    """Return the graph of an OpenDRIVE text from outside, in the coordinates of the text.

    Raises:
        MapError: the text is not a usable OpenDRIVE map.
    """
    from td3_agent.sim.road import RoadMap  # noqa: PLC0415  carla is for the child alone
    from td3_agent.sim.road_graph import road_graph  # noqa: PLC0415

    found = checked(name, opendrive)
    graph = road_graph(RoadMap(name, found.opendrive))
    x_m, y_m = found.origin_m
    network = replace(graph.network, x_m=graph.network.x_m + x_m, y_m=graph.network.y_m + y_m)
    moved = np.array((x_m, y_m, 0.0, 0.0))
    return replace(graph, network=network, spawn_points=graph.spawn_points + moved)


class GraphReader:
    """One map being read.

    Args:
        name: of the map.
        opendrive: OpenDRIVE text.
        limit_s: wall time that reading may take [s].

    Attributes:
        done: whether :meth:`graph` returns at once.
    """

    def __init__(self, name: str, opendrive: str, limit_s: float = TRIAL_LIMIT_S) -> None:
        self._name, self._limit_s = name, limit_s
        self._found: RoadGraph | str = f'map {name!r}: the process that reads it has broken'
        self._child = subprocess.Popen(  # noqa: S603  our own interpreter and a constant program
            _command('read_graph', name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the program that reads
        )
        self._thread = threading.Thread(
            target=self._read, args=(opendrive,), name='map reader', daemon=True
        )
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the map has been read, or refused."""
        return not self._thread.is_alive()

    def graph(self) -> RoadGraph:
        """Return the graph, waiting for it.

        Raises:
            MapError: the map was refused, or crashed its reader.
        """
        self._thread.join()
        if isinstance(self._found, str):
            raise MapError(self._found)
        return self._found

    def cancel(self) -> None:
        """Read no further."""
        self._child.kill()
        self._thread.join()

    def _read(self, opendrive: str) -> None:
        text = opendrive.encode(errors='replace')
        try:
            answer, said = self._child.communicate(text, timeout=self._limit_s)
            refuse_failed(self._name, self._child.returncode, said)
            self._found = pickle.loads(answer)  # noqa: S301  from our own child
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
            self._found = f'map {self._name!r}: not read within {self._limit_s:g} s'
        except MapError as error:
            self._found = str(error)
