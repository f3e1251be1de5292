# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop, which can stop anywhere and resume exactly."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
import copy
from dataclasses import asdict
from functools import partial
import logging
import statistics
import time
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from td3_agent.driving.memory import keep_freed_memory
from td3_agent.envs import with_module
from td3_agent.files import write_json
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.policy_file import policy_file
from td3_agent.processes import interruptions_noted
from td3_agent.td3.learner import Learner, prepare_learner_thread
from td3_agent.td3.replay import ReplayBuffer
from td3_agent.td3.snapshot import load_newest, save_snapshot, snapshots
from td3_agent.training.acting import Explorer, evaluate
from td3_agent.training.envs import EnvFailureError, Episodes, LocalEnv, ProcessEnv
from td3_agent.training.health import examine, parked_alarm, speed_state_of
from td3_agent.training.params import CONFIG, changes, grouped, saved_config
from td3_agent.training.rollouts import LocalRollouts
from td3_agent.training.run_folder import CsvLog, PolicySaver, TensorBoard, check_inputs, versions
from td3_agent.training.spaces import common_spaces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from td3_agent.processes import Interruption
    from td3_agent.td3.learner import Batch
    from td3_agent.td3.params import Td3Params
    from td3_agent.training.params import RayParams, TrainParams
    from td3_agent.training.ray_rollouts import RayRollouts

LOG = logging.getLogger(__name__)


class Trainer:
    """Trains one policy on one or more environments with the same spaces.

    Attributes:
        step: environment steps so far.
        exact: whether the run depends on its seed alone, not on interruptions; False with Ray,
            where the order of steps depends on the machines.
    """

    def __init__(
        self,
        env_ids: tuple[str, ...],
        td3: Td3Params,
        train: TrainParams,
        out: Path,
        ray: RayParams | None = None,
    ) -> None:
        """Build environments, learner and buffer; nothing is written yet.

        Args:
            env_ids: Gymnasium ids, with their modules.
            td3: settings of the algorithm.
            train: settings of the run.
            out: folder of the results.
            ray: settings of Ray's workers, in a session of Ray; None takes the steps here.

        Raises:
            ValueError: the task cannot be learned with these settings.
        """
        self.env_ids, self.td3, self.train, self.out, self.ray = env_ids, td3, train, out, ray
        torch.set_num_threads(train.threads)
        keep_freed_memory()
        eval_ids = (train.eval_env,) if train.eval_env else env_ids
        self._eval_envs = [gymnasium.make(with_module(env_id)) for env_id in eval_ids]
        envs = dict(zip(eval_ids, self._eval_envs, strict=False))
        envs |= {name: gymnasium.make(with_module(name)) for name in env_ids if name not in envs}
        self.spaces = common_spaces(envs, train.frame_stack)
        low, high = (tuple(float(x) for x in side) for side in (self.spaces.low, self.spaces.high))
        self.learner = Learner(
            td3, self.spaces.shape, low, high, seed=train.seed, device=device_of(train.device)
        )
        if train.start_policy:
            policy, manifest = load_checkpoint(policy_file(train.start_policy))
            self.learner.warm_start(policy.actor)
            check_inputs(manifest.inputs, self.spaces, self._eval_envs[0])
        self._acting = copy.deepcopy(self.learner.actor)  # as it was before the last updates
        self.buffer = ReplayBuffer(
            self.spaces.shape,
            len(low),
            capacity=td3.buffer_capacity,
            seed=np.random.SeedSequence((train.seed, 2)),
            streams=len(env_ids) if ray is None else ray.workers,
        )
        self._rollouts: LocalRollouts | RayRollouts
        self._rollouts = self._local_rollouts() if ray is None else self._ray_rollouts(ray)
        self._saver = PolicySaver(out, self.spaces, self._eval_envs[0], train)
        self._progress, self._evaluations = CsvLog(out / 'progress.csv'), CsvLog(out / 'eval.csv')
        self._board: TensorBoard | None = None
        self._speed_state = speed_state_of(self._eval_envs[0])
        self._alarms: dict[str, str] = {}  # present ones, by name
        self._alarmed: dict[str, int] = {}  # number of rows of progress.csv with each
        self._best_return: float | None = None
        self._last: dict[str, float] | None = None
        self._saved_at = 0
        self._updater = ThreadPoolExecutor(1, 'learner', prepare_learner_thread, (train.threads,))
        self._update: Future[None] | None = None  # that runs
        self._begun = 0  # updates, with that one
        self._batch: Batch | None = None  # of the last update in this round
        self._clock = (time.monotonic(), 0)
        self.step = 0
        self.exact = ray is None

    @property
    def _random_steps(self) -> int:
        """Steps taken with random actions before learning starts."""
        return 0 if self.train.start_policy else self.td3.start_steps

    def _local_rollouts(self) -> LocalRollouts:
        """Return rollouts in this process, or in one process per environment."""
        seed = self.train.seed
        port = ProcessEnv if self.train.processes else LocalEnv
        streams = [
            Episodes(port(partial(gymnasium.make, with_module(env_id))), seed, stream)
            for stream, env_id in enumerate(self.env_ids)
        ]
        explorer = Explorer(
            self._acting,
            self.td3,
            streams=len(streams),
            seed=np.random.SeedSequence((seed, 3)),
            random_steps=self._random_steps,
        )
        return LocalRollouts(streams, explorer, self.spaces, self.buffer)

    def _ray_rollouts(self, ray: RayParams) -> RayRollouts:
        """Return rollouts by Ray's workers; Ray is imported only here."""
        from td3_agent.training.ray_rollouts import RayRollouts  # noqa: PLC0415

        return RayRollouts(
            self.env_ids,
            self.spaces,
            self.learner,
            self.buffer,
            seed=self.train.seed,
            random_steps=self._random_steps,
            params=ray,
        )

    def run(self, *, resume: bool = False) -> dict[str, Any]:
        """Train to the last step and return the summary.

        Raises:
            KeyboardInterrupt: Ctrl-C, SIGTERM or a hang-up. The run saves a snapshot after the
                present round first; a second signal ends it at once.
            EnvFailureError: environments or workers broke several times in a row; a snapshot is
                saved.
            ValueError: the folder holds another run, or none to resume.
        """
        with interruptions_noted(raising=True, patient=True) as interruption:
            try:
                self.begin(resume=resume)
                begun_s, begun_at = self._clock
                self._rounds(interruption)
                if interruption.happened:
                    self._save_newest()
                interruption.check()
                self._finish()
            except EnvFailureError:
                self._save_newest()
                raise
            finally:
                self.close()
        return self._summary(time.monotonic() - begun_s, self.step - begun_at)

    def _rounds(self, interruption: Interruption) -> None:
        """Take all remaining steps, or those up to an interruption."""
        with (
            logging_redirect_tqdm(),
            tqdm(total=self.train.steps, initial=self.step, unit='step', disable=None) as progress,
        ):
            while self.step < self.train.steps and not interruption.happened:
                self.round()
                progress.update(self.step - progress.n)
                progress.set_postfix_str(self._shown(), refresh=False)

    def begin(self, *, resume: bool = False) -> None:
        """Open the folder and begin, or resume: the part of :meth:`run` before its rounds."""
        self._open(resume=resume)
        if self.step == 0:
            self._rollouts.start()
            self._evaluate()  # the untrained policy is the baseline
        self._clock = (time.monotonic(), self.step)

    def close(self) -> None:
        self._updater.shutdown()
        self._rollouts.close()
        for env in self._eval_envs:
            env.close()
        if self._board is not None:
            self._board.close()

    def _shown(self) -> str:
        """Return the text beside the progress bar."""
        parts = [] if self._last is None else [f'return {self._last["return_mean"]:.1f}']
        return ', '.join([*parts, *self._alarms.values()])

    # ---- One round ------------------------------------------------------------------------------

    def round(self) -> None:
        """Take the next steps, with the updates, logs and snapshots that are due."""
        before, self._batch = self.step, None
        self.step += self._rollouts.act(self.step, self._learn)
        if self._batch is not None and self._passes(before, self.train.log_every):
            self._log(self._batch)
        if self._passes(before, self.train.eval_every):
            self._evaluate()
        if self._passes(before, self.train.snapshot_every):
            self._save()

    def _finish(self) -> None:
        """Evaluate and save the last step, if that was not done."""
        if self._last is None or self._last['step'] != self.step:
            self._evaluate()
        self._save_newest()

    def _passes(self, before: int, every: int) -> bool:
        return every > 0 and before // every < self.step // every

    def _learn(self, taken: int) -> None:
        """Make the updates that are due with the next ``taken`` steps; the last one is only begun.

        It runs beside the next steps, which the policy from before it takes. So what is learned
        does not depend on how long either needs.
        """
        params = self.td3
        learned_from = max(self.step + taken - params.start_steps, 0)
        while self._begun < int(learned_from * params.updates_per_step):
            sample = self.buffer.sample(
                params.batch_size,
                n_step=params.n_step,
                discount=params.discount,
                still_share=params.still_share,
                tone_share=params.tone_share,
            )
            self._finish_update()
            self._acting.load_state_dict(self.learner.actor.state_dict())
            self._batch = self.learner.batch(sample)
            self._update = self._updater.submit(self.learner.update, self._batch)
            self._begun += 1
        if self.ray is not None:  # its workers are sent the newest policy
            self._finish_update()

    def _finish_update(self) -> None:
        """Wait for the update that runs, if one does."""
        if self._update is not None:
            self._update.result()
            self._update = None

    # ---- Logs ----------------------------------------------------------------------------------

    def _log(self, batch: Batch) -> None:
        """Write a row of progress, and warn of new alarms."""
        self._finish_update()
        health = examine(self.learner, batch, self.buffer.largest_reward)
        speeds = (
            {} if self._speed_state is None else self._speed_state.fractions(self.buffer.states())
        )
        # Whether the actor has had a gradient yet.
        begun = self.learner.updates >= self.td3.actor_start_updates + self.td3.policy_delay
        alarms = (health.alarms() if begun else {}) | parked_alarm(speeds)
        for name in alarms.keys() - self._alarms.keys():
            LOG.warning('step %d: %s', self.step, alarms[name])
        self._alarms = alarms
        for name in alarms:
            self._alarmed[name] = self._alarmed.get(name, 0) + 1
        now_s, (then_s, then) = time.monotonic(), self._clock
        self._clock = (now_s, self.step)
        finished = self._rollouts.finished
        row: dict[str, float | str] = {
            'step': self.step,
            'updates': self.learner.updates,
            'episodes': self._rollouts.episodes,
            'failures': self._rollouts.failures,
            'return_mean': statistics.fmean(finished) if finished else '',
            **asdict(health),
            **speeds,
            **self._rollouts.figures(),
            'steps_per_s': (self.step - then) / (now_s - then_s),
            'alarms': '; '.join(alarms.values()),
        }
        self._write(self._progress, 'train', row)

    def _evaluate(self) -> None:
        """Evaluate, log, and save the policy."""
        if not self.train.eval_every:
            return
        self._finish_update()
        row = self._last = evaluate(
            self.learner.actor,
            self.spaces,
            self._eval_envs,
            episodes=self.train.eval_episodes,
            longest=self.train.eval_steps,
            step=self.step,
        )
        best = self._best_return is None or row['return_mean'] > self._best_return
        self._best_return = row['return_mean'] if best else self._best_return
        self._write(self._evaluations, 'eval', row)
        notes = {**self._settings(), 'evaluation': row}
        self._saver.save(self.learner.actor, self.step, notes, best=best)

    def _write(self, table: CsvLog, group: str, row: Mapping[str, float | str]) -> None:
        table.write(row)
        if self._board is not None:
            self._board.write(group, row, self.step)

    def _summary(self, wall_s: float, steps: int) -> dict[str, Any]:
        return {
            **self._settings(),
            'step': self.step,
            'best_return': self._best_return,
            'last_return': None if self._last is None else self._last['return_mean'],
            'alarms': self._alarmed,
            'failures': self._rollouts.failures,
            **self._rollouts.figures(),
            'exact': self.exact,
            'wall_s': round(wall_s, 3),
            'steps_per_s': round(steps / wall_s, 3) if wall_s > 0.0 else None,
        }

    def _settings(self) -> dict[str, Any]:
        mine = grouped(self.env_ids, self.td3, self.train, self.ray)
        return {**mine, 'versions': versions()}

    # ---- Saving and resuming -------------------------------------------------------------------

    def _open(self, *, resume: bool) -> None:
        """Create the folder of the run, or continue with the existing one."""
        config = self.out / CONFIG
        if resume:
            saved, mine = saved_config(self.out), self._settings()
            if faults := changes(saved, mine):
                raise ValueError(f'cannot resume {self.out}: ' + '; '.join(faults))
            if saved.get('versions') != mine['versions']:
                LOG.warning('resuming with other versions: the result may differ')
            self._resume()
        elif config.exists():
            raise ValueError(f'{self.out} already holds a run; see --resume')
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / 'summary.json').unlink(missing_ok=True)  # of a run that is extended
        write_json(config, self._settings())
        self._board = TensorBoard(self.out / 'tensorboard', self.step or None)

    def _save_newest(self) -> None:
        """Write a snapshot of this step, if snapshots are on and it has none."""
        if self.train.snapshot_every and self._saved_at != self.step:
            self._save()

    def _save(self) -> None:
        tensors, facts = self.state()
        save_snapshot(self.out / 'snapshots', self.step, tensors, facts, keep=self.train.keep)
        self._saved_at = self.step

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state to save: tensors and plain JSON."""
        self._finish_update()
        parts: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = {
            'learner': self.learner.state(),
            'acting': (self._acting.state_dict(), {}),
            'buffer': self.buffer.state(),
        }
        tensors = {
            f'{part}.{name}': torch.as_tensor(array)
            for part, (arrays, _) in parts.items()
            for name, array in arrays.items()
        }
        acting, acting_facts = self._rollouts.state()
        own = {
            'step': self.step,
            'alarms': self._alarms,
            'alarmed': self._alarmed,
            'best_return': self._best_return,
            'last': self._last,
            'exact': self.exact,
        }
        facts = own | acting_facts | {part: kept for part, (_, kept) in parts.items()}
        return tensors | acting, facts

    def _resume(self) -> None:
        """Restore the newest snapshot; without one the run starts again.

        Raises:
            ValueError: no snapshot is whole.
        """
        folder = self.out / 'snapshots'
        if not snapshots(folder):
            self._rewind(-1)
            return
        tensors, facts = load_newest(folder)

        def part(name: str) -> dict[str, Tensor]:
            prefix = f'{name}.'
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        self.learner.restore(part('learner'), facts['learner'])
        self._acting.load_state_dict(part('acting'))
        self._begun = self.learner.updates
        arrays = {name: tensor.numpy() for name, tensor in part('buffer').items()}
        self.buffer.restore(arrays, facts['buffer'])
        self.step = self._saved_at = facts['step']
        self._best_return, self._last = facts['best_return'], facts['last']
        self.exact = facts['exact']
        self._alarms, self._alarmed = facts['alarms'], facts['alarmed']
        self._rewind(self.step)
        self.exact &= self._rollouts.restore(tensors, facts)

    def _rewind(self, step: int) -> None:
        for table in (self._progress, self._evaluations):
            table.rewind(step)


def device_of(name: str) -> str:
    """Return the torch device for a choice.

    Raises:
        ValueError: this machine has no such device.
    """
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    if name == 'cuda' and not torch.cuda.is_available():
        raise ValueError('device is cuda, but torch finds no GPU here: set it to cpu or auto')
    return name
