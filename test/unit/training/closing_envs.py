# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Environments that tell of their end, for worker processes; see test_workers.py."""

import os
from pathlib import Path
import time

import gymnasium
import worker_envs


class Closing(worker_envs.Counting):
    """Leaves a file when it is closed."""

    def close(self):
        (Path(os.environ['WORKER_ENVS_FOLDER']) / 'closed').touch()


class Stuck(Closing):
    """Comes to no end."""

    def close(self):
        super().close()
        time.sleep(600.0)


for cls in (Closing, Stuck):
    gymnasium.register(id=f'{cls.__name__}-v0', entry_point=cls)
