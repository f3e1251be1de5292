# SPDX-License-Identifier: Apache-2.0
"""What a trained policy is saved as: its contract follows from the task it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from td3_agent.nearby import POLICY_SUFFIX
from td3_agent.policy.checkpoint import save_checkpoint
from td3_agent.policy.manifest import (
    DRIVING,
    GYMNASIUM,
    ActionField,
    ImageContract,
    InputContract,
    OutputContract,
    StateField,
    driving_inputs,
    driving_outputs,
)

if TYPE_CHECKING:
    from pathlib import Path

    import gymnasium

    from td3_agent.policy.networks import Actor
    from td3_agent.training.spaces import TaskSpaces


class PolicySaver:
    """Writes deployable checkpoints of one run: the last ones, and the best."""

    def __init__(
        self, out: Path, spaces: TaskSpaces, env: gymnasium.Env[Any, Any], *, keep: int
    ) -> None:
        """Save below ``out``.

        Args:
            out: folder of the run.
            spaces: of the task.
            env: an environment of the task; one that drives says how its images are made.
            keep: last checkpoints that are kept.
        """
        self._folder, self._best = out / 'policies', out / f'best{POLICY_SUFFIX}'
        self._keep = keep
        self._kind, self._inputs, self._outputs = contract(spaces, env)

    def save(self, actor: Actor, step: int, notes: dict[str, Any], *, best: bool) -> None:
        """Write ``policies/step_<step>.safetensors``, and ``best.safetensors`` where it is.

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


def contract(
    spaces: TaskSpaces, env: gymnasium.Env[Any, Any]
) -> tuple[str, InputContract, OutputContract]:
    """Return kind, inputs and outputs of a policy for a task."""
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
