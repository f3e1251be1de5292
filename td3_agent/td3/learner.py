# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""TD3: Fujimoto, van Hoof, Meger 2018, arXiv:1802.09477, Algorithm 1.

Inside the learner, actions and their noise are normalised to [-1, 1] in every dimension; the
bounds of the environment apply where actions enter and leave. ``docs/td3.md`` lists all deviations
from the paper, with their reasons.
"""

from __future__ import annotations

import copy
from itertools import pairwise
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim.swa_utils import get_ema_multi_avg_fn

from td3_agent.policy.manifest import ActorConfig
from td3_agent.policy.policy import build_actor
from td3_agent.td3.params import ENCODERS, OBSERVATION, PRIVILEGED, Td3Params

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.policy.policy import Actor
    from td3_agent.td3.transitions import ObservationShape, Sample


LEAST_VALUE = 1e-3  # fresh critics return values near zero
LAST_RATE = 0.1  # of the actor's learning rate, where it falls
TWINS = 2


class Batch(NamedTuple):
    """A sample on the learner's device; fields as in :class:`~td3_agent.td3.replay.Sample`."""

    state: Tensor
    image: Tensor | None
    action: Tensor
    reward: Tensor
    bootstrap: Tensor
    next_state: Tensor
    next_image: Tensor | None


class Views(NamedTuple):
    """The inputs of the two heads.

    Attributes:
        actor: (B, ·) image features and state.
        critic: (B, ·) the same, or with simulator state instead or in addition.
    """

    actor: Tensor
    critic: Tensor


class TwinCritic(nn.Module):
    """Q1 and Q2 of Fujimoto et al. 2018: separate weights, the same inputs.

    Attributes:
        weights: of each layer, (2, inputs, outputs).
        biases: of each layer, (2, 1, outputs).
    """

    def __init__(self, input_size: int, action_size: int, hidden: tuple[int, ...]) -> None:
        """Reserve the layers; :func:`initialise_twins` gives them their values.

        Args:
            input_size: numbers that describe the situation.
            action_size: numbers in an action.
            hidden: units of each hidden layer.
        """
        super().__init__()
        sizes = (input_size + action_size, *hidden, 1)
        layers = list(pairwise(sizes))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(TWINS, *pair)) for pair in layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(TWINS, 1, b)) for _, b in layers)

    def forward(self, inputs: Tensor, action: Tensor, twins: int = TWINS) -> Tensor:
        """Return both values, or the first alone.

        Args:
            inputs: (B, input_size).
            action: (B, actions) in [-1, 1].
            twins: how many of the two.

        Returns:
            (twins, B, 1).
        """
        values = torch.cat((inputs, action), dim=1).expand(twins, -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            seen = values if i == 0 else torch.relu(values)
            values = torch.baddbmm(bias[:twins], seen, weight[:twins])
        return values


def initialise_twins(critic: TwinCritic, generator: torch.Generator) -> None:
    """Fill all layers uniformly within +-1/sqrt(fan in), PyTorch's default."""
    with torch.no_grad():
        for weight, bias in zip(critic.weights, critic.biases, strict=True):
            bound = 1.0 / math.sqrt(weight.shape[1])
            for parameter in (weight, bias):
                parameter.uniform_(-bound, bound, generator=generator)


class Networks(nn.Module):
    """Actor and twin critics, with one image encoder; a target is a copy of all of it.

    The critics' loss trains the encoder and the actor gets its output without a gradient (Yarats
    et al. 2019, arXiv:1910.01741), so both use the same features. Asymmetric critics, with
    simulator state in place of images (Pinto et al. 2017, arXiv:1710.06542), do not use the
    encoder: then the actor's loss trains it.
    """

    def __init__(
        self,
        config: ActorConfig,
        critic_input: str,
        privileged_size: int,
        generator: torch.Generator,
    ) -> None:
        """Build both with fresh weights.

        Args:
            config: architecture of the actor; the critics have the same hidden layers.
            critic_input: one of the choices of ``Td3Params.critic_input``.
            privileged_size: numbers of simulator state, after the state vector.
            generator: draws the weights.

        Raises:
            ValueError: the critics need simulator state and there is none.
        """
        super().__init__()
        if critic_input != OBSERVATION and privileged_size == 0:
            raise ValueError(
                f"critic_input {critic_input!r} needs an observation with a 'privileged' part"
            )
        self.actor = build_actor(config, generator)
        self.state_size = config.state_size
        self.critic_sees_privileged = critic_input != OBSERVATION
        self.critic_sees_images = config.image_shape is not None and critic_input != PRIVILEGED
        critic_size = config.state_size
        critic_size += privileged_size if self.critic_sees_privileged else 0
        critic_size += config.features if self.critic_sees_images else 0
        self.critic = TwinCritic(critic_size, len(config.action_low), config.hidden)
        initialise_twins(self.critic, generator)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return [] if self.actor.encoder is None else list(self.actor.encoder.parameters())

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the critics' loss trains."""
        shared = self.encoder_parameters() if self.critic_sees_images else []
        return [*shared, *self.critic.parameters()]

    def actor_parameters(self) -> list[nn.Parameter]:
        """Return what the actor's loss trains: the rest."""
        others = {id(parameter) for parameter in self.critic_parameters()}
        return [p for p in self.actor.parameters() if id(p) not in others]

    def views(self, state: Tensor, image: Tensor | None) -> Views:
        """Return the inputs of both heads; each image is encoded once."""
        own = state[:, : self.state_size]
        vectors = state if self.critic_sees_privileged else own
        if image is None or self.actor.encoder is None:
            return Views(own, vectors)
        features = self.actor.encoder(image)
        actor = torch.cat((features, own), dim=1)
        if not self.critic_sees_images:
            return Views(actor, vectors)
        if not self.critic_sees_privileged:
            return Views(actor, actor)
        return Views(actor, torch.cat((features, vectors), dim=1))

    def action(self, view: Tensor) -> Tensor:
        """Return the normalised actions, (B, actions), for the actor's input."""
        return torch.tanh(self.actor.pre_tanh_from(view))

    def critic_views(self, state: Tensor, image: Tensor | None) -> Views:
        """Return :meth:`views` for the critics; the actor's is complete if they see images."""
        return self.views(state, image if self.critic_sees_images else None)


def prepare_learner_thread(threads: int) -> None:
    """Make this thread, and the pool that torch starts from it, ready for updates.

    Both flush numbers below 1.2e-38 to zero: the moments of idle weights decay into them, the
    processor takes ten times as long for them, and decay does not end them (0.9 of the smallest
    one is rounded to itself). Call it before the thread's first operation: the threads of the pool
    inherit the mode when they start.

    Args:
        threads: of torch, this one included.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


class Learner:
    """Networks, their targets and optimisers; :meth:`update` is the algorithm.

    Attributes:
        params: the settings.
        networks: the trained networks.
        target: their slow copy.
        updates: so far.
        critic_loss: of the last update, (), no gradient.
        actor_loss: of the last update of the actor, ().
    """

    def __init__(  # noqa: PLR0913  keywords only
        self,
        params: Td3Params,
        shape: ObservationShape,
        action_low: tuple[float, ...],
        action_high: tuple[float, ...],
        *,
        seed: int,
        device: str = 'cpu',
    ) -> None:
        """Build networks with fresh weights.

        Args:
            params: settings.
            shape: sizes of an observation.
            action_low: lower limit of each action, in the environment's units.
            action_high: upper limit of each action.
            seed: of the weights and of the noise on target actions.
            device: torch device that computes.

        Raises:
            ValueError: the settings do not fit the observation.
        """
        self.params = params
        config = actor_config(params, shape, action_low, action_high)
        weights = torch.Generator().manual_seed(seed)
        self.networks = Networks(config, params.critic_input, shape.privileged_size, weights)
        self.networks.to(device)
        self.target = copy.deepcopy(self.networks).requires_grad_(requires_grad=False)
        self.device = torch.device(device)
        self.updates = 0
        self.critic_loss = torch.zeros((), device=device)
        self.actor_loss = torch.zeros((), device=device)
        self._generator = torch.Generator(device).manual_seed(seed)
        self._critic_adam = _adam(self.networks.critic_parameters(), params.critic_lr)
        self._actor_adam = _adam(self.networks.actor_parameters(), params.actor_lr)
        # The soft (Polyak) update; torch gives its type as Any.
        self._soft_update: Any = get_ema_multi_avg_fn(1.0 - params.tau)  # type: ignore[no-untyped-call]
        self._head_gradient = torch.zeros((), device=device)
        if params.imitation_weight > 0.0 and shape.expert_size == 0:
            raise ValueError("imitation_weight needs an observation with an 'expert' part")

    @property
    def actor(self) -> Actor:
        return self.networks.actor

    def batch(self, sample: Sample) -> Batch:
        """Return a sample as tensors; on the CPU they share its memory."""
        return Batch._make(
            None if part is None else torch.from_numpy(part).to(self.device) for part in sample
        )

    def update(self, batch: Batch) -> None:
        """Make one step of Algorithm 1 with a batch of transitions (s, a, r, s').

        The greek letters are the paper's: theta the critics, phi the actor, primes the targets.
        """
        networks, target, params = self.networks, self.target, self.params
        with torch.no_grad():
            # a~ <- pi_phi'(s') + eps,  eps ~ clip(N(0, sigma~), -c, c)
            seen = target.views(batch.next_state, batch.next_image)
            action = target.action(seen.actor)
            action = (action + self._smoothing(action)).clamp(-1.0, 1.0)
            # y <- r + gamma min_i Q_theta'_i(s', a~), without the second term after the end
            value = target.critic(seen.critic, action).amin(dim=0)
            wanted = batch.reward + params.discount * batch.bootstrap * value

        # theta_i <- argmin N^-1 sum (y - Q_theta_i(s, a))^2, one step of Adam for both
        seen = networks.critic_views(batch.state, batch.image)
        error = networks.critic(seen.critic, batch.action) - wanted
        self.critic_loss = self._descend(self._critic_adam, error.square().mean(dim=1).sum())

        self.updates += 1
        if self.updates % params.policy_delay == 0 and self.updates > params.actor_start_updates:
            # phi: up the gradient N^-1 sum grad_a Q_theta_1(s, a) grad_phi pi_phi(s)
            action, value = self._action_and_value(self._actor_views(batch, seen))
            loss = -value.mean()
            if params.imitation_weight > 0.0:
                loss = self._with_imitation(loss, batch, action, value)
            self._actor_adam.param_groups[0]['lr'] = self._actor_rate()
            self.actor_loss = self._descend(self._actor_adam, loss)
            self._head_gradient = self.actor.head.weight.grad.norm()  # type: ignore[union-attr]
        if self.updates % params.policy_delay == 0:
            # theta' <- tau theta + (1 - tau) theta',  phi' <- tau phi + (1 - tau) phi'
            self._soft_update(list(target.parameters()), list(networks.parameters()), 0)

    def _descend(self, adam: torch.optim.Adam, loss: Tensor) -> Tensor:
        """Take a gradient step of one optimiser's parameters only."""
        adam.zero_grad()
        loss.backward(inputs=adam.param_groups[0]['params'])  # type: ignore[no-untyped-call]
        adam.step()
        return loss.detach()

    def _actor_rate(self) -> float:
        params = self.params
        if params.actor_lr_decay_updates == 0:
            return params.actor_lr
        done = min(self.updates / params.actor_lr_decay_updates, 1.0)
        return params.actor_lr * (1.0 - (1.0 - LAST_RATE) * done)

    def warm_start(self, actor: Actor) -> None:
        """Take the weights of another actor, for the target too; critics stay fresh.

        Raises:
            ValueError: its architecture differs.
        """
        if actor.config != self.actor.config:
            raise ValueError(
                f'the policy of a warm start must have {self.actor.config}, got {actor.config}'
            )
        for own in (self.networks.actor, self.target.actor):
            for mine, theirs in zip(own.parameters(), actor.parameters(), strict=True):
                mine.data.copy_(theirs.data)

    def policy_weights(self) -> NDArray[np.float32]:
        """Return a copy of all weights of the policy in one vector, for workers."""
        return np.asarray(parameters_to_vector(self.actor.parameters()).detach().cpu().numpy())

    def actor_values(self, batch: Batch) -> Tensor:
        """Return Q1 of the policy's own actions, (B, 1): what the actor's loss maximises."""
        with torch.no_grad():
            return self._action_and_value(self.networks.views(batch.state, batch.image))[1]

    def _actor_views(self, batch: Batch, seen: Views) -> Views:
        """Return what the actor's loss is computed from.

        Not in the paper: where the critics train the encoder, the actor's loss reuses the features
        of their loss, one step of Adam old, so that an update encodes each image once (as Yarats
        et al. 2021, arXiv:2107.09645).
        """
        if self.networks.critic_sees_images:
            return Views(seen.actor.detach(), seen.critic.detach())
        return self.networks.views(batch.state, batch.image)

    def _action_and_value(self, seen: Views) -> tuple[Tensor, Tensor]:
        """Return the policy's actions, (B, actions), and their Q1, (B, 1)."""
        action = self.networks.action(seen.actor)
        return action, self.networks.critic(seen.critic, action, twins=1)[0]

    def _with_imitation(self, loss: Tensor, batch: Batch, action: Tensor, value: Tensor) -> Tensor:
        """Return the actor's loss with the imitation (BC) term.

        Not in the paper: TD3+BC (Fujimoto & Gu 2021, arXiv:2106.06860), whose value term is
        divided by the mean of |Q|; the imitated action is the expert's in that state (Ross et al.
        2011, arXiv:1011.0686), not the action that was taken.
        """
        scale = value.detach().abs().mean().clamp(min=LEAST_VALUE)
        apart = action - batch.state[:, -action.shape[1] :]
        return loss / scale + self.params.imitation_weight * apart.square().mean()

    def _smoothing(self, action: Tensor) -> Tensor:
        """Return clipped noise, shaped like ``action``."""
        params, noise = self.params, torch.empty_like(action)
        noise.normal_(0.0, params.target_noise, generator=self._generator)
        return noise.clamp_(-params.target_noise_clip, params.target_noise_clip)

    # ---- Saving ---------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state to save: tensors (views) and plain JSON."""
        tensors = self._weights()
        for name, adam in self._optimisers().items():
            for i, moments in adam.state_dict()['state'].items():
                tensors |= {f'{name}.{i}.{key}': value for key, value in moments.items()}
        tensors['noise_generator'] = self._generator.get_state()
        tensors['head_gradient'] = self._head_gradient  # for a log right after resuming
        tensors['critic_loss'], tensors['actor_loss'] = self.critic_loss, self.actor_loss
        return tensors, {'updates': self.updates}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restore :meth:`state`.

        Raises:
            ValueError: the saved networks have other shapes.
        """
        for name, mine in self._weights().items():
            if tensors[name].shape != mine.shape:
                saved, expected = tuple(tensors[name].shape), tuple(mine.shape)
                raise ValueError(f'saved {name} is {saved}, expected {expected}')
            mine.copy_(tensors[name])
        for name, adam in self._optimisers().items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f'{name}.'):
                    _, i, moment = key.split('.')
                    state.setdefault(int(i), {})[moment] = value.clone()
            adam.load_state_dict(adam.state_dict() | {'state': state})
        self._generator.set_state(tensors['noise_generator'])
        self._head_gradient = tensors['head_gradient'].to(self.device)
        self.critic_loss = tensors['critic_loss'].to(self.device)
        self.actor_loss = tensors['actor_loss'].to(self.device)
        self.updates = facts['updates']

    def _weights(self) -> dict[str, Tensor]:
        return {
            f'{name}.{key}': value
            for name, module in (('networks', self.networks), ('target', self.target))
            for key, value in module.state_dict().items()
        }

    def _optimisers(self) -> dict[str, torch.optim.Adam]:
        return {'critic_adam': self._critic_adam, 'actor_adam': self._actor_adam}

    def head_gradient(self) -> float:
        """Return the norm of the last gradient of the weights of the actor's last layer."""
        return float(self._head_gradient)


def _adam(parameters: list[nn.Parameter], rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=rate, fused=True)


def actor_config(
    params: Td3Params,
    shape: ObservationShape,
    action_low: tuple[float, ...],
    action_high: tuple[float, ...],
) -> ActorConfig:
    return ActorConfig(
        image_shape=shape.image_shape,
        state_size=shape.state_size,
        action_low=action_low,
        action_high=action_high,
        conv=ENCODERS[params.encoder],
        features=params.features,
        hidden=(params.hidden_units,) * params.hidden_layers,
    )
