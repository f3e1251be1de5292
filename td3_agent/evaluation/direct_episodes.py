# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Drives episodes in process: in this one, in worker processes, or by tasks of Ray."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
import multiprocessing
from multiprocessing import connection
import os
from pathlib import Path
import signal
import tempfile
import threading
from typing import TYPE_CHECKING

import cv2

from td3_agent.driving.agent import Agent
from td3_agent.driving.command import TwistConvention
from td3_agent.driving.idm import FollowingDriver
from td3_agent.driving.loop import drive, ledger_records
from td3_agent.driving.loop_check import camera_findings, rate_findings
from td3_agent.driving.observation import ObservationSpec
from td3_agent.driving.parameters import param
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.driving.velocity_control import TwistConverter
from td3_agent.evaluation.episode_result import EpisodeResult, result_of
from td3_agent.evaluation.episodes import (
    EvaluationError,
    begun,
    up_to_the_ending,
    write_ledger,
)
from td3_agent.nodes.drivers import DriverParams, LoadedDriver, make_driver
from td3_agent.sim.embedded import EmbeddedWorld
from td3_agent.sim.lead import lead_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.loop import Step
    from td3_agent.evaluation.episodes import Episode, EpisodePlan
    from td3_agent.sim.simulator import Simulator

DIRECT = 'direct'
FOLLOWING = 'pure_pursuit_idm'
DIRECT_DRIVERS = ('td3', 'pure_pursuit', FOLLOWING)


@dataclass(frozen=True, kw_only=True)
class DirectDriverParams(DriverParams):
    """Which driver, in process."""

    driver: str = param(
        'td3',
        'a TD3 policy, pure pursuit, or pure pursuit with IDM following',
        choices=DIRECT_DRIVERS,
    )


def load_direct_driver(params: DirectDriverParams, simulator: Simulator) -> LoadedDriver:
    """Return the driver that the parameters name, for the first car of a simulator.

    Raises:
        ValueError: the checkpoint is invalid; the text names file, field and value.
    """
    if params.driver != FOLLOWING:
        return make_driver(params)
    pursuit = PurePursuitDriver(cruise_speed_mps=params.cruise_speed_mps)
    driver = FollowingDriver(pursuit, lambda: lead_of(simulator, simulator.ego))
    return LoadedDriver(driver, ObservationSpec(), 'pure pursuit with IDM', needs_route=True)


@dataclass(frozen=True, kw_only=True)
class DirectJob:
    """One episode and its drivers, one after the other: its map is painted once.

    Attributes:
        plan: rules of the episodes.
        episode: the episode.
        drivers: by the name of their row.
        ledgers: where the ledger of a row is written; rows not named keep none.
    """

    plan: EpisodePlan
    episode: Episode
    drivers: dict[str, DirectDriverParams]
    ledgers: dict[str, Path]


def drive_job(job: DirectJob) -> dict[str, EpisodeResult]:
    """Drive one episode with each of its drivers; return the results by row."""
    results = {}
    for row, driver in job.drivers.items():
        simulator = job.episode.simulator()
        ego = simulator.ego
        task = begun(job.plan.task(ego.route), ego.route, (ego.state.x_m, ego.state.y_m))
        loaded = load_direct_driver(driver, simulator)
        records = up_to_the_ending(ledger_records(direct_drive(simulator, loaded)), task)
        if row in job.ledgers:
            write_ledger(job.ledgers[row], records)
        one = result_of(job.episode, simulator, records, task, transport=DIRECT)
        results[row] = replace(one, findings=tuple(contract_findings(loaded, simulator)))
    return results


def contract_findings(loaded: LoadedDriver, simulator: Simulator) -> list[Finding]:
    """Return how the simulator's camera and step differ from what the driver was trained with."""
    config, trained = simulator.config, loaded.contract
    found = camera_findings(trained.camera, config.camera.view)
    return found + rate_findings(trained.rate_hz, 1.0 / config.fixed_delta_seconds)


def direct_drive(simulator: Simulator, loaded: LoadedDriver) -> Iterator[Step]:
    """Drive without an end, with the driver that was loaded for this simulator."""
    agent = Agent(loaded.driver, loaded.spec)
    return drive(EmbeddedWorld(simulator), agent, TwistConverter(TwistConvention.VELOCITY))


def drive_jobs(
    jobs: Sequence[DirectJob], processes: int, ray: str | None = None
) -> Generator[dict[str, EpisodeResult], None, None]:
    """Drive all jobs and yield their results in order.

    Args:
        jobs: the episodes.
        processes: at once.
        ray: address of the Ray that drives them, see
            :func:`~td3_agent.training.ray_session.ray_session`; policies and maps that they name
            must lie on every machine of it. None for processes of our own.

    Raises:
        EvaluationError: a worker process died, with Ray again and again.
    """
    if ray is not None and jobs:
        yield from _drive_by_ray(jobs, ray, processes)
        return
    if processes == 1 or len(jobs) <= 1:
        yield from map(drive_job, jobs)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), multiprocessing.get_context('spawn'), prepare_worker
    )
    # Not pool.map: interrupted, it cancels what is pending, and the pool's own thread then
    # complains that cancelled jobs have no workers any more.
    pending = deque(pool.submit(drive_job, job) for job in jobs)  # starts the workers
    workers = set(multiprocessing.active_children()) - others
    try:
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise EvaluationError(f'a worker process died: {error}') from error
    finally:
        for worker in workers:  # unfinished episodes are of no use
            worker.terminate()
        pool.shutdown()


def prepare_worker() -> None:
    """Set up a worker: one thread, no Ctrl-C of its own, an end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _drive_by_ray(
    jobs: Sequence[DirectJob], address: str, processes: int
) -> Generator[dict[str, EpisodeResult], None, None]:
    """Drive all jobs; one whose process dies is driven again."""
    import ray  # noqa: PLC0415  needed here alone
    from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415  as above

    from td3_agent.training.ray_session import ray_session  # noqa: PLC0415  as above

    with ray_session(address, processes):
        drive = ray.remote(num_cpus=1)(_drive_away)
        pending = deque(drive.remote(job) for job in jobs)
        for job in jobs:
            try:
                results, ledgers = ray.get(pending.popleft())
            except RayTaskError:
                raise
            except RayError as error:
                raise EvaluationError(f'episode {job.episode.number}: {error}') from error
            for row, content in ledgers.items():
                job.ledgers[row].parent.mkdir(parents=True, exist_ok=True)
                job.ledgers[row].write_bytes(content)
            yield results


def _drive_away(job: DirectJob) -> tuple[dict[str, EpisodeResult], dict[str, bytes]]:
    """Drive an episode on a machine that may be another one; return its ledgers too."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        ledgers = {row: Path(folder) / path.name for row, path in job.ledgers.items()}
        results = drive_job(replace(job, ledgers=ledgers))
        return results, {row: path.read_bytes() for row, path in ledgers.items()}
