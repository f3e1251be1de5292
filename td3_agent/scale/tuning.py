# SPDX-License-Identifier: Apache-2.0
"""Trials of a sweep, run by Ray Tune: as many at once as there are processors for."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.logger import JsonLoggerCallback
from tqdm import tqdm

from td3_agent.scale.session import ray_session
from td3_agent.scale.sweep import Result
from td3_agent.training.envs import EnvFailureError
from td3_agent.training.train import trained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from td3_agent.scale.sweep import Trial

ENVIRONMENT = {
    'TUNE_DISABLE_AUTO_CALLBACK_LOGGERS': '1',  # the runs have logs of their own
    'TUNE_DISABLE_SIGINT_HANDLER': '1',  # a Ctrl-C ends us, not the trial that is under way alone
    'RAY_AIR_NEW_OUTPUT': '0',  # the other one knows no silence
    'RAY_CHDIR_TO_TRIAL_DIR': '0',
}
TRIES_MORE = 2  # for a run whose process or machine is lost


def run_trials(trials: Sequence[Trial], address: str, processes: int) -> list[Result]:
    """Run all trials and return what came of each, in order.

    One whose process dies goes on from its last snapshot. Folders must lie on every machine.

    Args:
        trials: with different folders.
        address: see :func:`~td3_agent.scale.session.ray_session`.
        processes: at once, where Ray is started here.
    """
    os.environ |= ENVIRONMENT
    places = [trial.out.resolve() for trial in trials]

    def train(config: dict[str, Any]) -> None:
        number = config['trial']
        tune.report({'result': run_trial(trials[number], places[number])})

    with (
        ray_session(address, processes),
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=len(trials), unit='run', disable=None) as progress,
    ):
        tuner = tune.Tuner(
            tune.with_resources(train, {'cpu': 1}),
            param_space={'trial': tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                # Tune looks for its own log at the end.
                callbacks=[_Told(progress), JsonLoggerCallback()],
                failure_config=tune.FailureConfig(max_failures=TRIES_MORE),
            ),
        )
        found = {result.config['trial']: result for result in tuner.fit()}
    return [
        Result(trial=trial, **found[number].metrics['result'])
        if found[number].error is None
        else Result(trial=trial, error=str(found[number].error).strip().splitlines()[-1])
        for number, trial in enumerate(trials)
    ]


def run_trial(trial: Trial, out: Path) -> dict[str, Any]:
    """Train, or go on; return the summary, or the error if it is not the program's."""
    resume = (out / 'config.json').exists()
    try:
        summary = trained(trial.env_ids, trial.td3, trial.train, out, resume=resume)
    except (ValueError, OSError, EnvFailureError) as error:
        return {'error': f'{type(error).__name__}: {error}'}
    return {'summary': summary}


class _Told(tune.Callback):  # type: ignore[misc]  # Ray's types are not known here
    """Moves the progress bar on."""

    def __init__(self, progress: tqdm[Any]) -> None:
        self._progress = progress

    def on_trial_complete(self, **_: object) -> None:
        self._progress.update()
