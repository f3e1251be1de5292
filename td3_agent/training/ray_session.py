# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Connect to a Ray cluster, or start one on this machine for the time of a block."""

from __future__ import annotations

from contextlib import contextmanager
import logging
import os
import signal
import socket
import sys
import tempfile
from typing import TYPE_CHECKING, NoReturn

import ray
from ray._private import ray_constants  # it has no public switch for the loopback interface

from td3_agent.training.params import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

LOG = logging.getLogger(__name__)
# Room for fragments in transit and one policy; the rest is spilled to disk. Ray's default is a
# third of the machine's memory.
OBJECT_STORE_BYTES = 128 << 20
CONNECT_S = 10.0
STARTS = 3
# The path of a socket has at most 107 bytes, most of them Ray's.
LONGEST_SOCKET = '/ray_abcdefgh/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store.99'
LONGEST_TEMPORARY_FOLDER = 107 - len(LONGEST_SOCKET)
ENVIRONMENT = {
    'RAY_USAGE_STATS_ENABLED': '0',
    'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0',  # the default of later versions; avoids a warning
}


@contextmanager
def ray_session(address: str, processes: int) -> Iterator[None]:
    """Stay connected to Ray while the block runs; nested blocks share one session.

    Args:
        address: of a cluster that this machine belongs to, as ``ray.init`` takes it, or ``LOCAL``
            to start Ray here: on the loopback interface, without dashboard and usage statistics;
            it ends with the block.
        processes: parallel ones.

    Raises:
        OSError: there is no cluster at that address, or none can be started here.
    """
    if ray.is_initialized():
        yield
        return
    os.environ |= ENVIRONMENT
    handler = signal.getsignal(signal.SIGTERM)
    with session_folder() as folder:
        try:
            if address == LOCAL:
                _start(processes, folder)
            else:
                _join(address, processes)
            # Ray has installed a handler that aborts.
            signal.signal(signal.SIGTERM, handler if callable(handler) else _end)
            yield
        finally:
            ray.shutdown()
            os.environ.pop(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, None)
            ray_constants.ENABLE_RAY_CLUSTER = True
            signal.signal(signal.SIGTERM, handler)


def session_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for Ray's logs and sockets: in /tmp where TMPDIR is too long for sockets."""
    where = tempfile.gettempdir()
    if len(os.fsencode(where)) > LONGEST_TEMPORARY_FOLDER:
        where = '/tmp'  # noqa: S108  the folder made there has a random name, for this user alone
    return tempfile.TemporaryDirectory(prefix='ray_', dir=where, ignore_cleanup_errors=True)


def _end(number: int, _: FrameType | None) -> NoReturn:
    """End the program as the signal would, through the session's clean-up."""
    sys.exit(128 + number)


def _start(processes: int, folder: str) -> None:
    """Start Ray on this machine.

    Raises:
        TimeoutError: the machine is too busy for it.
    """
    # Ray's own switch for the loopback interface; it would replace an address given to init. The
    # variable is for new processes, the constant for this one.
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = '0'
    ray_constants.ENABLE_RAY_CLUSTER = False
    for tries_left in reversed(range(STARTS)):
        try:
            ray.init(
                address=LOCAL,
                num_cpus=processes,  # however many cores there are
                num_gpus=0,  # the learner uses the GPU, outside Ray
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                _temp_dir=folder,
            )
        except Exception as error:  # noqa: PERF203  Ray has no class for it
            if 'timed out during startup' not in str(error):
                raise
            if tries_left == 0:
                text = f'Ray was not up within its 30 s, {STARTS} times: is the machine too busy?'
                raise TimeoutError(text) from error
            # What has started idles until this program ends.
            LOG.warning('Ray was not up within its 30 s and is started again')
        else:
            return


def _join(address: str, processes: int) -> None:
    """Connect to a cluster; warn if it is small.

    Raises:
        ConnectionError: there is none.
    """
    host, colon, port = address.rpartition(':')
    if colon and '/' not in address and port.isdigit():
        try:
            socket.create_connection((host, int(port)), CONNECT_S).close()
        except OSError as error:  # Ray would retry for minutes
            raise ConnectionError(f'--ray {address}: no cluster answers there: {error}') from error
    ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    cpus = int(ray.cluster_resources().get('CPU', 0))
    if cpus < processes:
        LOG.warning('the cluster has %d CPUs now for %d workers: some will wait', cpus, processes)
