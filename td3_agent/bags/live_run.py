# SPDX-License-Identifier: Apache-2.0
"""Runs a live replay: the player in this process, and the agent in one of its own if wanted."""

from __future__ import annotations

from contextlib import ExitStack
import os
from typing import TYPE_CHECKING

import rclpy
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from td3_agent.bags.errors import BagError
from td3_agent.bags.live import LiveParams, PlayerNode, play
from td3_agent.driving.loop_check import Contract
from td3_agent.evaluation.processes import ProcessGroup, interruptions_noted, ros_environment
from td3_agent.ros_domain import domain_id_of

if TYPE_CHECKING:
    import argparse

    from td3_agent.bags.bag import Bag, Contents
    from td3_agent.bags.inputs import Inputs
    from td3_agent.bags.offline import Replay


def run_live(args: argparse.Namespace, bag: Bag, contents: Contents, inputs: Inputs) -> Replay:
    """Play the bag to the agent of this ROS domain; a Ctrl-C ends it with what there is.

    Raises:
        BagError: no agent is there, it ended, or the bag is damaged.
        KeyboardInterrupt: asked to end before anything was answered.
    """
    params = LiveParams(rate=args.rate, loop=args.loop, start_offset_s=args.start_offset)
    environment = ros_environment(domain_id_of(os.environ))
    os.environ.update(environment)
    with ExitStack() as stack:
        interruption = stack.enter_context(interruptions_noted())
        group = stack.enter_context(ProcessGroup(args.out, environment))
        if args.start_agent:
            group.start('td3_agent_node', agent_parameters(args, inputs))
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        node = PlayerNode(bag, contents, inputs, params)
        stack.callback(node.destroy_node)
        total = None if params.loop else contents.counts[inputs.image]
        progress = stack.enter_context(
            tqdm(total=total, unit='frame', desc='playing', disable=None)
        )
        for _ in play(node):
            progress.update(len(node.replay.records) - progress.n)
            if dead := group.ended_early():
                raise BagError(f'the agent ended: {dead.last_words()}')
            if interruption.happened:
                break
        if not node.replay.records:
            interruption.check()
    if node.trouble:
        raise BagError(node.trouble)
    node.replay.judge(inputs, Contract(), None)  # the agent itself tells what it was trained with
    node.replay.pairing = {
        'answered': len(node.replay.records),
        'answered_without_frame': node.unknown_frames,
        'rounds': node.rounds,
    }
    return node.replay


def agent_parameters(args: argparse.Namespace, inputs: Inputs) -> dict[str, object]:
    """Return the parameters of an agent that answers every frame of the bag."""
    policy = (args.policy or ['lane'])[0]
    driver = {'driver': policy} if policy == 'pure_pursuit' else {'policy': policy}
    return {
        **driver,
        'role_name': inputs.role_name,
        'image_topic': inputs.image.removesuffix('/compressed'),
        'odometry_topic': inputs.odometry,
        'twist_convention': args.twist_convention,
        'mode': 'lockstep',
    }
