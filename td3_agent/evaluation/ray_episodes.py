# SPDX-License-Identifier: Apache-2.0
"""Episodes of an evaluation as tasks of Ray: on however many machines, the same as on one."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING

import cv2
import ray
from ray.exceptions import RayError, RayTaskError

from td3_agent.evaluation.direct_episodes import EvaluationError, drive_job
from td3_agent.training.ray_session import ray_session

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from td3_agent.evaluation.direct_episodes import DirectJob
    from td3_agent.evaluation.episode_result import EpisodeResult


def drive_by_ray(
    jobs: Sequence[DirectJob], address: str, processes: int
) -> Generator[dict[str, EpisodeResult], None, None]:
    """Drive all jobs and yield their results in order; one whose process dies is driven again.

    Args:
        jobs: the episodes; policies and maps that they name must lie on every machine.
        address: see :func:`~td3_agent.training.ray_session.ray_session`.
        processes: at once, where Ray is started here.

    Raises:
        EvaluationError: an episode could not be driven, not even again.
    """
    with ray_session(address, processes):
        drive = ray.remote(num_cpus=1)(drive_away)
        pending = deque(drive.remote(job) for job in jobs)
        for job in jobs:
            try:
                judged, ledgers = ray.get(pending.popleft())
            except RayTaskError:
                raise
            except RayError as error:
                raise EvaluationError(f'episode {job.episode.number}: {error}') from error
            for row, content in ledgers.items():
                job.ledgers[row].parent.mkdir(parents=True, exist_ok=True)
                job.ledgers[row].write_bytes(content)
            yield judged


def drive_away(job: DirectJob) -> tuple[dict[str, EpisodeResult], dict[str, bytes]]:
    """Drive an episode on a machine that may be another one; return its ledgers too."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        ledgers = {row: Path(folder) / path.name for row, path in job.ledgers.items()}
        judged = drive_job(replace(job, ledgers=ledgers))
        return judged, {row: path.read_bytes() for row, path in ledgers.items()}
