# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: logs, deployable policies, and versions."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import lru_cache
import importlib
from importlib.util import find_spec
import logging
import os
from pathlib import Path
import subprocess
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from td3_agent import __version__
from td3_agent.files import POLICY_SUFFIX
from td3_agent.policy.checkpoint import save_checkpoint
from td3_agent.policy.manifest import (
    DRIVING,
    GYMNASIUM,
    SMOOTHING,
    ActionField,
    ImageContract,
    InputContract,
    OutputContract,
    StateField,
    driving_inputs,
    driving_outputs,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from td3_agent.policy.policy import Actor
    from td3_agent.training.params import TrainParams
    from td3_agent.training.spaces import TaskSpaces

LOG = logging.getLogger(__name__)
GIT_PATIENCE_S = 10.0


def versions() -> dict[str, str | None]:
    """Return the versions that a run's numbers depend on."""
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


# ---- Logs -----------------------------------------------------------------------------------


class CsvLog:
    """A table whose rows survive a crash; a resumed run continues it."""

    def __init__(self, path: Path) -> None:
        """Append to ``path``; the first row decides on the columns."""
        self._path = path

    def write(self, row: Mapping[str, float | str]) -> None:
        fresh = not self._path.exists() or self._path.stat().st_size == 0
        with self._path.open('a', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def rewind(self, step: int) -> None:
        """Drop rows of later steps, and a torn last one: the resumed run writes them again."""
        if not self._path.exists():
            return
        with self._path.open(newline='', encoding='utf-8') as file:
            header, *rows = list(csv.reader(file)) or [[]]
        kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= step]
        beside = self._path.with_suffix('.tmp')
        with beside.open('w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows([header, *kept] if kept else [])
        os.replace(beside, self._path)  # noqa: PTH105  clearer than Path.replace


class TensorBoard:
    """Scalars and texts for TensorBoard; logs that it does nothing where that is not installed."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        """Write to ``folder``; steps from ``purge_step`` on are written again."""
        self._writer: Any = None
        if find_spec('tensorboard') is None:
            LOG.info('tensorboard is not installed: the logs are the CSV files alone')
        else:
            module = importlib.import_module('torch.utils.tensorboard')
            self._writer = module.SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, group: str, row: Mapping[str, float | str], step: int) -> None:
        if self._writer is not None:
            for name, value in row.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(f'{group}/{name}', value, step)
                elif value:
                    self._writer.add_text(f'{group}/{name}', value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


# ---- Policies -------------------------------------------------------------------------------


class PolicySaver:
    """Writes deployable checkpoints of one run: the last ones, and the best.

    Args:
        out: folder of the run.
        spaces: of the task.
        env: an environment of the task; a driving one defines how images are preprocessed.
        train: how many checkpoints to keep, and how their target speed is smoothed.

    Raises:
        ValueError: smoothing where no vehicle is driven.
    """

    def __init__(
        self, out: Path, spaces: TaskSpaces, env: gymnasium.Env[Any, Any], train: TrainParams
    ) -> None:
        self._folder, self._best = out / 'policies', out / f'best{POLICY_SUFFIX}'
        self._keep = train.keep
        self._kind, self._inputs, outputs = contract(spaces, env)
        smoothing = {name: getattr(train, name) for name in SMOOTHING}
        self._outputs = replace(outputs, **smoothing)
        for name, smoothing_s in smoothing.items():
            if smoothing_s and self._kind != DRIVING:
                raise ValueError(
                    f'{name} must be 0 for a task that does not drive, got {smoothing_s}'
                )

    def save(self, actor: Actor, step: int, notes: dict[str, Any], *, best: bool) -> None:
        """Write ``policies/step_<step>.safetensors``, and ``best.safetensors`` if it is the best.

        Raises:
            CheckpointError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        newest = self._folder / f'step_{step:010d}{POLICY_SUFFIX}'
        for target in (newest, self._best) if best else (newest,):
            save_checkpoint(
                target,
                actor,
                kind=self._kind,
                trained=step > 0,
                inputs=self._inputs,
                outputs=self._outputs,
                training={**notes, 'step': step},
            )
        for old in sorted(self._folder.glob('step_*'))[: -self._keep]:
            old.unlink()


def check_inputs(learned: InputContract, spaces: TaskSpaces, env: gymnasium.Env[Any, Any]) -> None:
    """Check that a task makes the inputs of a policy as the policy has learned them.

    Args:
        learned: inputs of the policy.
        spaces: of the task.
        env: an environment of the task.

    Raises:
        ValueError: an image or a state is made in another way; the camera may differ.
    """
    made = contract(spaces, env)[1]
    pairs: list[tuple[str, object, object]] = [
        ('state', [f.name for f in learned.state], [f.name for f in made.state])
    ]
    pairs += [
        (name, getattr(learned.image, name, None), getattr(made.image, name, None))
        for name in ('image_height_px', 'image_width_px', 'frame_stack', 'crop_top', 'colour')
    ]
    for name, expected, got in pairs:
        if got != expected:
            raise ValueError(
                f'the task must make the inputs of start_policy as they were in its training: '
                f'{name} must be {expected}, got {got}'
            )


def contract(
    spaces: TaskSpaces, env: gymnasium.Env[Any, Any]
) -> tuple[str, InputContract, OutputContract]:
    spec = getattr(env.unwrapped, 'spec_of_observation', None)
    if spec is not None:  # only td3_agent/Driving-v0 has one
        seen = getattr(env.unwrapped, 'contract', None)
        inputs = driving_inputs(spec, seen.rate_hz, seen.camera) if seen else driving_inputs(spec)
        return DRIVING, inputs, driving_outputs()
    shape = spaces.shape
    image = None
    if shape.image_shape is not None:
        channels, height, width = shape.image_shape
        image = ImageContract(
            encodings=('mono8',),
            image_height_px=height,
            image_width_px=width,
            frame_stack=channels,
            crop_top=0.0,
        )
    state = tuple(StateField(name=f'state_{i}', unit='1') for i in range(shape.state_size))
    actions = tuple(
        ActionField(name=f'action_{i}', unit='1', low=float(low), high=float(high))
        for i, (low, high) in enumerate(zip(spaces.low, spaces.high, strict=True))
    )
    inputs = InputContract(image=image, state=state, rate_hz=None)
    return GYMNASIUM, inputs, OutputContract(actions=actions, twist_convention=None)
