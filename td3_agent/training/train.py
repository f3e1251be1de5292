# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Train TD3 on a Gymnasium task: logs, snapshots to resume from, and the policy to deploy.

The folder holds ``config.json``, ``progress.csv``, ``eval.csv``, ``tensorboard/`` (if installed),
``snapshots/`` for --resume, ``policies/`` (the last ones), ``best.safetensors`` (the policy with
the best evaluation), and ``summary.json`` at the end.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import fields
import json
import logging
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium
import yaml

from td3_agent.driving.parameters import Params, expected
from td3_agent.envs import IN_TURNS, did_you_mean, register
from td3_agent.files import write_json
from td3_agent.td3.params import Td3Params
from td3_agent.td3.snapshot import snapshots
from td3_agent.training.envs import EnvFailureError
from td3_agent.training.params import (
    RayParams,
    TrainParams,
    add_ray_argument,
    changes,
    grouped,
    saved_settings,
)
from td3_agent.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
CLASSES = (TrainParams, Td3Params, RayParams)
P = TypeVar('P', bound=Params)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser)
    parser.add_argument('--out', type=Path, default=Path('train'), help='folder for the results')
    parser.add_argument('--resume', action='store_true', help='continue from the last snapshot')
    add_ray_argument(parser, 'have workers of Ray take the steps')
    add_settings(parser, CLASSES)


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--config',
        type=Path,
        help='YAML file of settings; the command line overrides it',
    )
    parser.add_argument(
        '--env',
        action='append',
        default=argparse.SUPPRESS,
        metavar='ID',
        help='Gymnasium id, "module:id" imports the module first; repeat it to train on several',
    )


def add_settings(
    parser: argparse.ArgumentParser,
    classes: tuple[type[Params], ...],
    without: tuple[str, ...] = (),
) -> None:
    """Declare every setting of some classes but ``without``."""
    for cls in classes:
        group = parser.add_argument_group(cls.__name__)
        for spec in fields(cls):
            if spec.name not in without:
                _add_parameter(group, spec)


def _add_parameter(group: Any, spec: Any) -> None:  # noqa: ANN401  argparse's and dataclasses' own
    name = '--' + spec.name.replace('_', '-')
    text = spec.metadata['text'].replace('%', '%%')
    if isinstance(spec.default, bool):
        group.add_argument(name, action='store_true', default=argparse.SUPPRESS, help=text)
        return
    choices = spec.metadata['choices'] or None
    if choices is None and not isinstance(spec.default, str):
        text += f'; {expected(spec.metadata)}'
    text += f' (default: {spec.default})' if spec.default != '' else ''
    group.add_argument(
        name, type=type(spec.default), choices=choices, default=argparse.SUPPRESS, help=text
    )


def params_of(settings: Mapping[str, Any], cls: type[P]) -> P:
    """Return the settings of one class.

    Raises:
        ParameterError: naming every rejected value.
    """
    return cls(**{spec.name: settings[spec.name] for spec in fields(cls) if spec.name in settings})


def settings_of(
    args: argparse.Namespace, saved: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all given settings; the command line overrides the file.

    Args:
        args: of the command line.
        saved: settings of a resumed run; the file overrides them.

    Raises:
        ValueError: the file cannot be read, or holds an unknown name.
    """
    names = {'env', *(spec.name for cls in CLASSES for spec in fields(cls))}
    settings = dict(saved or {})
    settings |= {} if args.config is None else _read_config(args.config, names)
    settings |= {name: getattr(args, name) for name in names if hasattr(args, name)}
    if not settings.get('env'):
        raise ValueError('nothing to train on: give --env ID, or --config FILE with env: [ID]')
    return settings


def _read_config(path: Path, names: set[str]) -> dict[str, Any]:
    """Return the settings in a file.

    Raises:
        ValueError: it cannot be read, or holds an unknown name.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'config {path} cannot be read: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('env', []), list):
        # The content of the file is invalid, not the type of an argument.
        raise ValueError(  # noqa: TRY004
            f'config {path} must be a mapping of settings, with a list as env'
        )
    unknown = sorted(map(str, content.keys() - names))
    if unknown:
        raise ValueError(f'config {path} has unknown settings: {", ".join(unknown)}')
    return content


def run(args: argparse.Namespace) -> int:
    """Train, write the results, and return the exit status.

    Raises:
        ValueError: a setting, the task or the folder is invalid.
    """
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    settings = settings_of(args, saved_settings(args.out) if args.resume else None)
    td3, train = params_of(settings, Td3Params), params_of(settings, TrainParams)
    ray = ray_params(settings, args.ray)
    try:
        with session(args.ray, ray):
            env_ids = tuple(settings['env'])
            summary = trained(env_ids, td3, train, args.out, ray=ray, resume=args.resume)
    except KeyboardInterrupt:
        sys.stderr.write(f'interrupted; {how_to_resume(args.out)}\n')
        return EXIT_INTERRUPTED
    except EnvFailureError as error:
        sys.stderr.write(f'td3_agent train: {error}; {how_to_resume(args.out)}\n')
        return EXIT_FAILED
    sys.stdout.write(table(summary) + f'\n\nresults in {args.out}\n')
    return 0


def trained(  # noqa: PLR0913  keywords only
    env_ids: tuple[str, ...],
    td3: Td3Params,
    train: TrainParams,
    out: Path,
    *,
    ray: RayParams | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, write the summary beside the other results, and return it.

    A resumed run that had already ended keeps its summary.

    Raises:
        ValueError: Gymnasium does not know the task, cannot make it, or it needs one process.
    """
    if (train.processes or ray is not None) and any(
        env_id.endswith(IN_TURNS) for env_id in env_ids
    ):
        raise ValueError(
            f'{", ".join(env_ids)}: one process steps that bridge: leave out processes and --ray'
        )
    register()  # so that Gymnasium's errors suggest them
    settings = grouped(env_ids, td3, train, ray)
    if resume and (finished := finished_summary(out, settings)) is not None:
        return finished
    try:
        summary = Trainer(env_ids, td3, train, out, ray).run(resume=resume)
    except gymnasium.error.UnregisteredEnv as error:
        meant = ''.join(map(did_you_mean, (*env_ids, train.eval_env)))
        raise ValueError(f'Gymnasium: {error}{meant}') from error
    except (gymnasium.error.Error, ImportError) as error:
        if isinstance(error, ImportError) and error.name:
            raise  # Python's own error names the missing package
        raise ValueError(f'Gymnasium: {error}') from error
    write_json(out / 'summary.json', summary)
    return summary


def finished_summary(out: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the summary of the run in a folder if it has these settings and all of its steps."""
    try:
        summary = json.loads((out / 'summary.json').read_text(encoding='utf-8'))
        done = summary['step'] >= settings['train']['steps'] and not changes(summary, settings)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or not a whole one
    return dict(summary) if done else None


def how_to_resume(out: Path) -> str:
    """Return how to continue a run that ended early."""
    if snapshots(out / 'snapshots'):
        return f'--resume --out {out} continues'
    return f'no snapshot was written yet, --resume --out {out} starts from the beginning'


def ray_params(settings: Mapping[str, Any], address: str | None) -> RayParams | None:
    """Return the settings of Ray's workers, None where there is no ``--ray``.

    Raises:
        ValueError: such settings without ``--ray``.
    """
    if address is not None:
        return params_of(settings, RayParams)
    given = [spec.name for spec in fields(RayParams) if spec.name in settings]
    if given:
        raise ValueError(f'{", ".join(given)}: only with --ray, which is not given')
    return None


def session(address: str | None, ray: RayParams | None) -> AbstractContextManager[None]:
    """Return the Ray session of a run; Ray is imported only here."""
    if address is None or ray is None:
        return nullcontext()
    from td3_agent.training.ray_session import ray_session  # noqa: PLC0415

    return ray_session(address, ray.workers)


def table(summary: dict[str, Any]) -> str:
    """Return the summary of a run as lines of text."""
    names = ('env', 'step', 'best_return', 'last_return', 'steps_per_s', 'alarms', 'exact')
    return '\n'.join(f'{name:<12} {_shown(summary[name])}' for name in names)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{name} ({rows} rows)' for name, rows in value.items()) or 'none'
    if isinstance(value, list):
        return ', '.join(map(str, value))
    return f'{value:.2f}' if isinstance(value, float) else str(value)
