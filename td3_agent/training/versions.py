# SPDX-License-Identifier: Apache-2.0
"""What a run was made with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
import subprocess

import gymnasium
import numpy as np
import torch

from td3_agent import __version__

GIT_PATIENCE_S = 10.0


def versions() -> dict[str, str | None]:
    """Return the versions of what a run's numbers depend on."""
    return {
        'td3_agent': __version__,
        'commit': commit(),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'gymnasium': gymnasium.__version__,
    }


@lru_cache
def commit() -> str | None:
    """Return the commit of this checkout, marked where files differ from it; None elsewhere."""
    folder = Path(__file__).resolve().parent
    # Without tags: the hash says more than their names.
    words = ('git', 'describe', '--always', '--abbrev=40', '--dirty', '--exclude', '*')
    try:
        done = subprocess.run(  # noqa: S603  fixed words
            words,
            cwd=folder,
            capture_output=True,
            check=True,
            text=True,
            timeout=GIT_PATIENCE_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # installed without its history, or no git
    return done.stdout.strip()
