# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Train with every combination of some settings, each with several seeds, through Ray Tune.

In the folder: a run for each of them, as ``td3_agent train`` leaves it, and ``sweep.csv``. What is
left of one that was interrupted goes on with ``--resume``. ``td3_agent compare`` draws the curves.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from importlib.util import find_spec
import io
from itertools import product
import os
from pathlib import Path
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from td3_agent.driving.parameters import reject_unknown
from td3_agent.evaluation.curves import shown
from td3_agent.evaluation.intervals import mean_with_t_interval
from td3_agent.evaluation.result_tables import aligned
from td3_agent.processes import interruptions_noted
from td3_agent.td3.params import Td3Params
from td3_agent.training.envs import EnvFailureError
from td3_agent.training.params import LOCAL, TrainParams, add_ray_argument
from td3_agent.training.train import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    add_settings,
    add_task_arguments,
    params_of,
    settings_of,
    trained,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

NEEDED = ('pandas', 'pyarrow', 'pydantic', 'ray')
CLASSES = (TrainParams, Td3Params)
TRIES_MORE = 2  # for a run whose process or machine is lost
TUNE_ENVIRONMENT = {
    'TUNE_DISABLE_AUTO_CALLBACK_LOGGERS': '1',  # the runs have logs of their own
    'TUNE_DISABLE_SIGINT_HANDLER': '1',  # a Ctrl-C ends us, not the trial that is under way alone
    'RAY_AIR_NEW_OUTPUT': '0',  # the other one is never silent
    'RAY_CHDIR_TO_TRIAL_DIR': '0',
}
FIGURES = ('step', 'best_return', 'last_return', 'steps_per_s', 'wall_s')


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep.

    Attributes:
        varied: what makes it another one than the others, by name; the seed comes last.
        env_ids: Gymnasium ids.
        td3: settings of the algorithm.
        train: settings of the run.
        out: its folder.
    """

    varied: dict[str, Any]
    env_ids: tuple[str, ...]
    td3: Td3Params
    train: TrainParams
    out: Path

    @property
    def setting(self) -> str:
        """What its runs with other seeds have in common."""
        return name_of({name: value for name, value in self.varied.items() if name != 'seed'})


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a trial: the summary of its run, or why there is none."""

    trial: Trial
    summary: Mapping[str, Any] | None = None
    error: str = ''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: those of the sweep, then every setting that all runs share."""
    add_task_arguments(parser)
    parser.add_argument('--out', type=Path, default=Path('sweep'), help='folder for the results')
    parser.add_argument('--resume', action='store_true', help='go on with what is there')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='of each setting')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE,VALUE',
        help='values of a setting; given for several settings, every combination is run',
    )
    parser.add_argument('--jobs', type=int, default=2, help='runs at once where Ray starts here')
    add_ray_argument(parser, 'whose Ray it is')
    add_settings(parser, CLASSES, without=('seed',))


def run(args: argparse.Namespace) -> int:
    """Run all trials, write the table, and return the exit status: not 0 if one has failed.

    Raises:
        ValueError: a setting or a folder is refused; nothing was run.
    """
    trials = trials_of(args)
    if args.jobs < 1:
        raise ValueError(f'--jobs must be >= 1, got {args.jobs}')
    if not args.resume and args.out.exists() and any(args.out.iterdir()):
        raise ValueError(f'{args.out} holds something already; see --resume')
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f'{", ".join(missing)}: not installed, pip install -r requirements/ray.in'
        )
    try:
        with interruptions_noted(raising=True) as interruption:
            results = run_trials(trials, args.ray or LOCAL, args.jobs)
            interruption.check()
    except KeyboardInterrupt:
        sys.stderr.write(f'interrupted; --resume --out {args.out} goes on\n')
        return EXIT_INTERRUPTED
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'sweep.csv').write_text(trial_csv(results), encoding='utf-8')
    sys.stdout.write(f'{setting_table(results)}\n\nresults in {args.out}\n')
    failed = [result for result in results if result.summary is None]
    for result in failed:
        sys.stderr.write(f'{result.trial.out}: {result.error}\n')
    if failed:
        sys.stderr.write(f'--resume --out {args.out} tries these again\n')
    return EXIT_FAILED if failed else 0


def run_trials(trials: Sequence[Trial], address: str, processes: int) -> list[Result]:
    """Run all trials and return what came of each, in order.

    One whose process dies goes on from its last snapshot. Folders must lie on every machine.

    Args:
        trials: with different folders.
        address: see :func:`~td3_agent.training.ray_session.ray_session`.
        processes: at once, where Ray is started here.
    """
    from ray import tune  # noqa: PLC0415  needed here alone
    from ray.tune.logger import JsonLoggerCallback  # noqa: PLC0415  as above

    from td3_agent.training.ray_session import ray_session  # noqa: PLC0415  as above

    os.environ |= TUNE_ENVIRONMENT
    places = [trial.out.resolve() for trial in trials]

    def train(config: dict[str, Any]) -> None:
        number = config['trial']
        tune.report({'result': run_trial(trials[number], places[number])})

    class Progress(tune.Callback):  # type: ignore[misc]  # Ray's types are not known here
        def on_trial_complete(self, **_: object) -> None:
            progress.update()

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
                callbacks=[Progress(), JsonLoggerCallback()],
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


def trials_of(args: argparse.Namespace) -> list[Trial]:
    """Return every trial, its settings checked.

    Raises:
        ValueError: naming what is refused.
    """
    settings = settings_of(args)
    varied = dict(values_of(text) for text in args.set)
    if len(varied) < len(args.set):
        raise ValueError('--set names a setting twice')
    if len(set(args.seeds)) < len(args.seeds):
        raise ValueError(f'--seeds must be unique, got {args.seeds}')
    names = [*varied, 'seed']
    trials = []
    for values in product(*varied.values(), args.seeds):
        changed = dict(zip(names, values, strict=True))
        whole = settings | changed
        trials.append(
            Trial(
                varied=changed,
                env_ids=tuple(whole['env']),
                td3=params_of(whole, Td3Params),
                train=params_of(whole, TrainParams),
                out=args.out / folder_of(changed),
            )
        )
    folders = [trial.out.name for trial in trials]
    if twice := sorted({name for name in folders if folders.count(name) > 1}):
        raise ValueError(f'--set: more than one run would be in {", ".join(twice)}')
    return trials


def values_of(text: str) -> tuple[str, list[Any]]:
    """Return name and values of a setting that is given as ``NAME=VALUE,VALUE``.

    Raises:
        ValueError: there is no such setting, or a value is of another type.
    """
    name, sign, values = text.partition('=')
    name = name.strip().replace('-', '_')
    if not sign or not values:
        raise ValueError(f'--set must be NAME=VALUE,VALUE, got {text!r}')
    known = {spec.name: spec for cls in CLASSES for spec in fields(cls)}
    if name == 'seed':
        raise ValueError('--set seed: seeds are given by --seeds')
    if name not in known:
        owner = max(CLASSES, key=lambda cls: sum(name[:3] in spec.name for spec in fields(cls)))
        reject_unknown([name], owner, '--set')
    kind = type(known[name].default)
    return name, [value_of(name, kind, value.strip()) for value in values.split(',')]


def value_of(name: str, kind: type, text: str) -> Any:  # noqa: ANN401  any setting's type
    """Return a value as its setting wants it.

    Raises:
        ValueError: it is of another type.
    """
    try:
        return {'true': True, 'false': False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise ValueError(f'--set {name}: {text!r} is no {kind.__name__}') from error


def name_of(varied: Mapping[str, Any]) -> str:
    """Return settings as one word, for tables."""
    return ','.join(f'{name}={value}' for name, value in varied.items())


def folder_of(varied: Mapping[str, Any]) -> str:
    """Return settings as the name of a folder: one that lies right in that of the sweep."""
    return name_of(varied).replace('..', '_').replace('/', '_')


def trial_csv(results: Sequence[Result]) -> str:
    """Return a row for each trial."""
    names = list(results[0].trial.varied)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow([*names, *FIGURES, 'alarms', 'folder', 'error'])
    for result in results:
        summary = result.summary or {}
        rows.writerow(
            [
                *result.trial.varied.values(),
                *(summary.get(name, '') for name in FIGURES),
                '; '.join(summary.get('alarms', ())),
                result.trial.out.name,
                result.error,
            ]
        )
    return text.getvalue()


def setting_table(results: Sequence[Result]) -> str:
    """Return a row for each setting, the best first: means over seeds, with 95 % intervals."""
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        runs = settings.setdefault(result.trial.setting or 'as it is', [])
        runs += [] if result.summary is None else [result.summary]
    figures = ('last_return', 'best_return')
    rows = [
        (name, str(len(runs)), *(returns_of(runs, figure) for figure in figures))
        for name, runs in settings.items()
    ]
    rows.sort(key=lambda row: -row[2][0])
    header = ['setting', 'seeds', 'last return', 'best return']
    return aligned([header, *([*row[:2], shown(*row[2]), shown(*row[3])] for row in rows)])


def returns_of(runs: Sequence[Mapping[str, Any]], figure: str) -> tuple[float, list[float] | None]:
    """Return mean and interval of a figure over runs; without any the mean is as bad as can be."""
    values = [run[figure] for run in runs if run[figure] is not None]
    return mean_with_t_interval(values) if values else (float('-inf'), None)
