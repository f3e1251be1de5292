# SPDX-License-Identifier: Apache-2.0
"""TD3: Fujimoto, van Hoof, Meger 2018, arXiv:1802.09477, Algorithm 1.

Inside the learner an action is normalised, [-1, 1] in every dimension, and so is the noise on
it: a policy's own bounds, unequal as they may be, apply where actions enter and leave. All
deviations from the paper are listed, with their reasons, in ``docs/td3.md``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from td3_agent.td3.critic import TwinCritic, initialise_twins
from td3_agent.td3.flat import Adam, FlatParameters, flushed_denormals
from td3_agent.td3.layers import Layers
from td3_agent.td3.networks import ActorConfig, build_actor
from td3_agent.td3.params import ENCODERS, OBSERVATION, PRIVILEGED, Td3Params

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.td3.networks import Actor
    from td3_agent.td3.replay import ObservationShape, Sample


LEAST_VALUE = 1e-3  # fresh critics say next to nothing
LAST_RATE = 0.1  # of the actor's learning rate, where it falls


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
    """What the two heads are given of an observation.

    Attributes:
        actor: (B, ·) image features and state.
        critic: (B, ·) the same, or with simulator state in place or on top of it.
    """

    actor: Tensor
    critic: Tensor


class Networks(nn.Module):
    """Actor and twin critics, with one image encoder; a target is a copy of all of it.

    The critics' loss trains the encoder and the actor is given its output without a gradient
    (Yarats et al. 2019, arXiv:1910.01741), so both always see the same features. Critics that
    see simulator state in place of images (Pinto et al. 2017, arXiv:1710.06542) have no use
    for the encoder: then the actor's loss trains it.
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
            ValueError: simulator state is asked for and there is none.
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
        """Return what sees images."""
        return [] if self.actor.encoder is None else list(self.actor.encoder.parameters())

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the critics' loss trains."""
        shared = self.encoder_parameters() if self.critic_sees_images else []
        return [*shared, *self.critic.parameters()]

    def actor_parameters(self) -> list[nn.Parameter]:
        """Return what the actor's loss trains: all that the critics' does not."""
        others = {id(parameter) for parameter in self.critic_parameters()}
        return [p for p in self.actor.parameters() if id(p) not in others]

    def views(self, state: Tensor, image: Tensor | None) -> Views:
        """Return what both heads see; the image is encoded once."""
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

    def critic_views(self, state: Tensor, image: Tensor | None) -> Views:
        """Return :meth:`views` for the critics: the actor's is whole only if they see images."""
        return self.views(state, image if self.critic_sees_images else None)


class Learner:
    """Networks, their targets and optimisers; :meth:`update` is the algorithm.

    Attributes:
        params: the settings.
        networks: what is learned.
        target: slow copy of all of it.
        updates: how many there have been.
        critic_loss: of the last update, (), no gradient.
        actor_loss: of the last update of the actor, ().
    """

    def __init__(  # noqa: PLR0913  what a task is made of
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
        self._noise = torch.empty(0, device=device)
        self._critic = FlatParameters(self.networks.critic_parameters())
        self._actor = FlatParameters(self.networks.actor_parameters())
        self._target_critic = FlatParameters(self.target.critic_parameters())
        self._target_actor = FlatParameters(self.target.actor_parameters())
        self._actor_layers = Layers.of_actor(self.actor, self._actor)
        self._critic_layers = Layers.of_critic(self.networks.critic, self._critic)
        self._q1_layers = Layers.of_critic(self.networks.critic, self._critic, twins=1)
        self._target_actor_layers = Layers.of_actor(self.target.actor, self._target_actor)
        self._target_critic_layers = Layers.of_critic(self.target.critic, self._target_critic)
        self._critic_adam = Adam(self._critic)
        self._actor_adam = Adam(self._actor)
        if params.imitation_weight > 0.0 and shape.expert_size == 0:
            raise ValueError("imitation_weight needs an observation with an 'expert' part")

    @property
    def actor(self) -> Actor:
        """The policy that is learned, encoder included."""
        return self.networks.actor

    def batch(self, sample: Sample) -> Batch:
        """Return a sample as tensors; on the CPU they share its memory."""
        return Batch._make(
            None if part is None else torch.from_numpy(part).to(self.device) for part in sample
        )

    @flushed_denormals()  # Adam's moments of idle weights fade into them, at ten times the price
    def update(self, batch: Batch) -> None:
        """Make one step of Algorithm 1 with a batch of transitions (s, a, r, s').

        The greek letters are the paper's: theta the critics, phi the actor, primes the targets.
        """
        networks, target, params, size = self.networks, self.target, self.params, len(batch.reward)
        with torch.no_grad():
            # a~ <- pi_phi'(s') + eps,  eps ~ clip(N(0, sigma~), -c, c)
            seen = target.views(batch.next_state, batch.next_image)
            action = self._target_actor_layers.forward(seen.actor)[0].tanh_()
            action.add_(self._smoothing(action)).clamp_(-1.0, 1.0)
            # y <- r + gamma min_i Q_theta'_i(s', a~), without the second term after the end
            value = self._target_critic_layers.forward(seen.critic, action).amin(dim=0)
            wanted = value.mul_(batch.bootstrap).mul_(params.discount).add_(batch.reward)

        # theta_i <- argmin N^-1 sum (y - Q_theta_i(s, a))^2, one step of Adam for both
        seen = networks.critic_views(batch.state, batch.image)
        with torch.no_grad():
            error = self._critic_layers.forward(seen.critic, batch.action).sub_(wanted)
            self.critic_loss = error.square().sum().div_(size)
            self._critic_layers.backward(error.mul_(2.0 / size))
        self._train_encoder(seen.critic, self._critic_layers, self._critic)
        self._critic_adam.step(params.critic_lr)

        self.updates += 1
        if self.updates % params.policy_delay == 0 and self.updates > params.actor_start_updates:
            # phi: up the gradient N^-1 sum grad_a Q_theta_1(s, a) grad_phi pi_phi(s)
            seen = self._actor_views(batch, seen)
            with torch.no_grad():
                action, value = self._act_and_judge(seen)
                self.actor_loss = value.mean().neg_()
                self._q1_layers.backward(torch.full_like(value[None], -1.0 / size), learn=False)
                slope = self._q1_layers.inputs_gradient(slice(-action.shape[1], None))
                if params.imitation_weight > 0.0:
                    slope = self._imitated(slope, batch, action, value)
                self._actor_layers.backward(slope.mul_(1.0 - action.square())[None])
            self._train_encoder(seen.actor, self._actor_layers, self._actor)
            self._actor_adam.step(self._actor_rate())
        if self.updates % params.policy_delay == 0:
            # theta' <- tau theta + (1 - tau) theta',  phi' <- tau phi + (1 - tau) phi'
            self._target_critic.approach(self._critic, params.tau)
            self._target_actor.approach(self._actor, params.tau)

    def _actor_rate(self) -> float:
        """Return the learning rate of the actor at this update."""
        params = self.params
        if params.actor_lr_decay_updates == 0:
            return params.actor_lr
        done = min(self.updates / params.actor_lr_decay_updates, 1.0)
        return params.actor_lr * (1.0 - (1.0 - LAST_RATE) * done)

    def adopt(self, actor: Actor) -> None:
        """Begin with the weights of another actor, its target included; critics stay fresh.

        Raises:
            ValueError: it is an actor of another architecture.
        """
        if actor.config != self.actor.config:
            raise ValueError(
                f'the policy to begin with must have {self.actor.config}, got {actor.config}'
            )
        for own in (self.networks.actor, self.target.actor):
            for mine, theirs in zip(own.parameters(), actor.parameters(), strict=True):
                mine.data.copy_(theirs.data)

    def actor_values(self, batch: Batch) -> Tensor:
        """Return Q1 of the policy's own actions, (B, 1): what the actor is to make large."""
        with torch.no_grad():
            return self._act_and_judge(self.networks.views(batch.state, batch.image))[1]

    def _actor_views(self, batch: Batch, seen: Views) -> Views:
        """Return what the actor's loss is computed from.

        Not in the paper: where the encoder is the critics', that is what their loss was computed
        from, one step of Adam old, so that an update encodes each image once (as Yarats et al.
        2021, arXiv:2107.09645, do).
        """
        networks = self.networks
        return seen if networks.critic_sees_images else networks.views(batch.state, batch.image)

    def _act_and_judge(self, seen: Views) -> tuple[Tensor, Tensor]:
        """Return the policy's actions, (B, actions), and their Q1, (B, 1)."""
        action = self._actor_layers.forward(seen.actor)[0].tanh_()
        return action, self._q1_layers.forward(seen.critic, action)[0]

    def _imitated(self, slope: Tensor, batch: Batch, action: Tensor, value: Tensor) -> Tensor:
        """Return the slope of the actor's loss with the expert's action in it, (B, actions).

        Not in the paper: TD3+BC (Fujimoto & Gu 2021, arXiv:2106.06860), whose value term is
        divided by the mean of |Q|, but what is imitated is not the action that was taken: it is
        what an expert does in that state (Ross et al. 2011, arXiv:1011.0686).
        """
        weight, scale = self.params.imitation_weight, value.abs().mean().clamp_(min=LEAST_VALUE)
        apart = action - batch.state[:, -action.shape[1] :]
        self.actor_loss = self.actor_loss / scale + weight * apart.square().mean()
        return slope / scale + apart.mul_(2.0 * weight / apart.numel())

    def _train_encoder(self, view: Tensor, layers: Layers, flat: FlatParameters) -> None:
        """Set the encoder's gradient, if these layers' loss trains it; ``view`` is their input."""
        encoder = self.networks.encoder_parameters()
        if encoder and flat.holds(encoder[0]):
            flat.differentiate(view, encoder, layers.inputs_gradient(slice(view.shape[1])))

    def _smoothing(self, action: Tensor) -> Tensor:
        """Return clipped noise, shaped like ``action``."""
        if self._noise.shape != action.shape:
            self._noise = torch.empty_like(action)
        params = self.params
        noise = self._noise.normal_(0.0, params.target_noise, generator=self._generator)
        return noise.clamp_(-params.target_noise_clip, params.target_noise_clip)

    # ---- Saving ---------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything there is to save: tensors (views) and plain JSON."""
        tensors = {name: flat.values for name, flat in self._vectors().items()}
        for name, adam in self._optimisers().items():
            tensors |= {f'{name}.{key}': value for key, value in adam.state.items()}
        tensors['noise_generator'] = self._generator.get_state()
        tensors['actor_gradient'] = self._actor.gradient  # a log right after resuming shows it
        tensors['critic_loss'], tensors['actor_loss'] = self.critic_loss, self.actor_loss
        return tensors, {'updates': self.updates}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Become the learner that :meth:`state` was taken of.

        Raises:
            ValueError: it was a learner with other networks.
        """
        for name, flat in self._vectors().items():
            if tensors[name].shape != flat.values.shape:
                raise ValueError(
                    f'saved {name} has {tensors[name].numel()} parameters, '
                    f'expected {flat.values.numel()}'
                )
            flat.values.copy_(tensors[name])
        for name, adam in self._optimisers().items():
            for key, value in adam.state.items():
                value.copy_(tensors[f'{name}.{key}'])
        self._generator.set_state(tensors['noise_generator'])
        self._actor.gradient.copy_(tensors['actor_gradient'])
        self.critic_loss = tensors['critic_loss'].to(self.device)
        self.actor_loss = tensors['actor_loss'].to(self.device)
        self.updates = facts['updates']

    def _vectors(self) -> dict[str, FlatParameters]:
        return {
            'critic': self._critic,
            'actor': self._actor,
            'target_critic': self._target_critic,
            'target_actor': self._target_actor,
        }

    def _optimisers(self) -> dict[str, Adam]:
        return {'critic_adam': self._critic_adam, 'actor_adam': self._actor_adam}

    def head_gradient(self) -> float:
        """Return the norm of the last gradient of the actor's last layer."""
        return float(self._actor.matrix(self.actor.head).gradient.norm())


def actor_config(
    params: Td3Params,
    shape: ObservationShape,
    action_low: tuple[float, ...],
    action_high: tuple[float, ...],
) -> ActorConfig:
    """Return the architecture of the policy that these settings ask for."""
    return ActorConfig(
        image_shape=shape.image_shape,
        state_size=shape.state_size,
        action_low=action_low,
        action_high=action_high,
        conv=ENCODERS[params.encoder],
        features=params.features,
        hidden=(params.hidden_units,) * params.hidden_layers,
    )


def normalised(action: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return an action in the environment's units as the learner's, [-1, 1] per dimension."""
    return np.asarray((2.0 * action - (high + low)) / (high - low))


def denormalised(action: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return a normalised action in the environment's units."""
    return np.asarray((high + low) / 2.0 + (high - low) / 2.0 * action)
