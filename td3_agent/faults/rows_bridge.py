# SPDX-License-Identifier: Apache-2.0
"""Rows in which the bridge has the manners of CARLA's: it plays, restarts, and needs ticks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from carla_msgs.msg import CarlaControl
from std_srvs.srv import Trigger

from td3_agent.driving.ledger import IDLE
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.rows_processes import expect_events, expect_single_steps
from td3_agent.faults.scene import (
    AGENT,
    BRIDGE,
    LONGEST_NAMING_S,
    NODE_NAMES,
    SYNCHRONIZER,
    WHOLE,
    Drive,
    Scene,
    SceneError,
)
from td3_agent.faults.watcher import is_stop
from td3_agent.nodes import topics
from td3_agent.nodes.runtime import RELIABLE

if TYPE_CHECKING:
    from td3_agent.driving.ledger_audit import Audit
    from td3_agent.faults.watcher import Heard

UPSTREAM = {'spawned': False, 'start_paused': False, 'play_real_time_factor': 0.0}
PLAYS = 20
SPAWN, DESTROY = '/carla_ros_bridge/spawn', '/carla_ros_bridge/destroy'
PATIENCE_S = 30.0
IDLE_TICKS = 4
GOES_ON_FRAMES = 37  # of a world while it has no bridge
LEASE_S = 20.0  # of the middleware: how long it remembers a dead process
WAYPOINTS = 'td3_agent.faults.waypoints_node'


@row('F25', f'{PLAYS} x PLAY from another program', case='bridge_plays')
def bridge_plays(scene: Scene) -> Outcome:
    """The bridge is paused again at once, and every frame that ran freely is counted and told."""
    outcome = Outcome()
    drive = scene.drive(parameters={BRIDGE: {'play_real_time_factor': 0.0}})
    scene.wait_good()
    publisher = scene.watcher.node.create_publisher(CarlaControl, topics.CONTROL, RELIABLE)
    scene.wait_for(publisher.get_subscription_count, 'the bridge to listen')
    begun_ns, frames = time.monotonic_ns(), len(scene.watcher.frames())
    for _ in range(PLAYS):
        publisher.publish(CarlaControl(command=CarlaControl.PLAY))
    expect_named(scene, outcome, begun_ns, 'went on by itself')
    # Frames that run freely are answered well too: only steps tell that the bridge is back.
    scene.wait_for(lambda: scene.watcher.steps_sent(begun_ns) > PLAYS, 'steps', PATIENCE_S)
    frame, back_ns = scene.watcher.frames()[-1], time.monotonic_ns()
    scene.wait_good()
    expect_single_steps(scene, outcome, back_ns, frame)
    free = len(scene.watcher.frames()) - frames - scene.watcher.steps_sent(begun_ns)
    scene.p0(outcome)
    audit = drive.audit(outcome, 'file', 'chain', 'events', 'outcomes')
    if audit is not None:
        told = sum(e['frames'] for e in audit.events if e['event'] == 'free_running')
        # A step was under way when it began, and another one may be at the end.
        is_right = told >= 1 and abs(told - free) <= 1
        outcome.check('frames without a step', is_right, told, f'{free}, or 1 off, and 1 at least')
        outcome.none(
            'other faults', (f for f in audit.findings['frames'].faults if 'skipped' not in f)
        )
        outcome.figures['free_frames'] = told
    return outcome


@row('F26', 'kill -9 of the bridge; the world goes on', quick=False, case='bridge_restarted')
def bridge_restarted(scene: Scene) -> Outcome:
    """Frame and time go on, so only the new process tells; the ledger says so, and holds."""
    outcome = Outcome()
    drive = mannered_drive(scene)
    frame = scene.watcher.frames()[-1]
    drive.kill(BRIDGE)
    restarted_ns = time.monotonic_ns()
    drive.start(BRIDGE, first_frame=frame + GOES_ON_FRAMES)
    expect_back(scene, outcome, restarted_ns)
    return finish(scene, outcome, drive, 'bridge_restarted')


@row(
    'F27',
    'kill -9 of the bridge; objects spawned after the lease',
    quick=False,
    case='bridge_restarted_late',
)
def bridge_restarted_late(scene: Scene) -> Outcome:
    """The dead one's vehicle in the graph does not count: it ticks until it has a new one."""
    outcome = Outcome()
    drive = mannered_drive(scene)
    killed_ns = drive.kill(BRIDGE)
    drive.start(BRIDGE)
    scene.pause(LEASE_S + 2.0 - (time.monotonic_ns() - killed_ns) / 1e9)
    expect_back(scene, outcome, time.monotonic_ns())
    return finish(scene, outcome, drive, 'bridge_restarted')


@row('F28', 'objects destroyed and spawned again', case='objects_exchanged')
def objects_exchanged(scene: Scene) -> Outcome:
    """The paused bridge gets idle ticks, with full brake, until the new ones are there."""
    outcome = Outcome()
    drive = mannered_drive(scene)
    begun_ns = time.monotonic_ns()
    ask(scene, DESTROY)
    expect_named(scene, outcome, begun_ns, f'vehicle of {drive.role}', 'idle ticks')
    gone_ns = time.monotonic_ns()
    expect_idle(scene, outcome, gone_ns)
    expect_back(scene, outcome, time.monotonic_ns())
    return finish(scene, outcome, drive)


@row('F29', 'waypoints from a program that starts last', case='route_late')
def route_late(scene: Scene) -> Outcome:
    """It needs a tick to find the car: it gets idle ticks, and the route is named until then."""
    outcome = Outcome()
    begun_ns = time.monotonic_ns()
    drive = scene.drive(parameters={BRIDGE: {'waypoints': False}})
    scene.wait_for(
        lambda: scene.watcher.named(begun_ns, NODE_NAMES[SYNCHRONIZER], 'waits for route'),
        'the route to be named',
    )
    expect_named(scene, outcome, begun_ns, 'no route yet on', node=AGENT, limit_s=PATIENCE_S)
    named_ns = time.monotonic_ns()
    expect_idle(scene, outcome, named_ns)
    settings = drive.parameters(BRIDGE)
    words = [str(settings['map']), str(settings['spawn_index'])]
    started_ns = time.monotonic_ns()
    scene.start_command('waypoints', [sys.executable, '-m', WAYPOINTS, *words])
    scene.wait_good(patience_s=PATIENCE_S)
    outcome.figures['drives_after_s'] = (time.monotonic_ns() - started_ns) / 1e9
    return finish(scene, outcome, drive)


# What the rows above have in common


def mannered_drive(scene: Scene) -> Drive:
    """Return a drive, under way, on a bridge that plays at first and spawns when asked."""
    drive = scene.drive(parameters={BRIDGE: UPSTREAM})
    ask(scene, SPAWN)
    scene.wait_good()
    return drive


def ask(scene: Scene, service: str) -> None:
    """Call a service of the bridge that serves at the next tick."""
    client = scene.watcher.node.create_client(Trigger, service)
    scene.wait_for(client.service_is_ready, f'the service {service}')
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:  # the graph remembers a dead bridge's service as well
        future = client.call_async(Trigger.Request())
        if scene.watcher.wait_for(future.done, 1.0, lambda: None):
            break
    else:
        raise SceneError(f'{service}: expected an answer within {PATIENCE_S:g} s')
    scene.watcher.node.destroy_client(client)


def expect_named(
    scene: Scene,
    outcome: Outcome,
    since_ns: int,
    *words: str,
    node: str = SYNCHRONIZER,
    limit_s: float = LONGEST_NAMING_S,
) -> None:
    """Expect that a node names the fault in time."""
    named_s = scene.wait_named(since_ns, NODE_NAMES[node], *words)
    outcome.most(f'{NODE_NAMES[node]} says "{" ".join(words)}" after', named_s, limit_s, 's')
    outcome.figures['named_s'] = named_s or -1.0


def expect_idle(scene: Scene, outcome: Outcome, since_ns: int) -> None:
    """Expect ticks, one or two a second, and nothing but full brake."""

    def ticks() -> list[Heard]:
        return [heard for heard in tuple(scene.watcher.clocks) if heard.at_ns >= since_ns]

    scene.wait_for(lambda: len(ticks()) >= IDLE_TICKS, 'idle ticks', PATIENCE_S)
    span_ns = ticks()[-1].at_ns - ticks()[0].at_ns
    rate_hz = (len(ticks()) - 1) / span_ns * 1e9
    outcome.check('idle ticks', 0.5 <= rate_hz <= 3.0, f'{rate_hz:.2g} Hz', '0.5 to 3 Hz')
    commands = [h.what for h in tuple(scene.watcher.commands) if h.at_ns >= since_ns]
    outcome.none('commands other than full brake', (c for c in commands if not is_stop(c)))


def expect_back(scene: Scene, outcome: Outcome, since_ns: int) -> None:
    """Spawn, and expect that frames are answered by the agent again."""
    ask(scene, SPAWN)
    scene.wait_good(patience_s=PATIENCE_S)
    outcome.figures['drives_after_s'] = (time.monotonic_ns() - since_ns) / 1e9


def finish(scene: Scene, outcome: Outcome, drive: Drive, *events: str) -> Outcome:
    """Look at P0, and expect a ledger that holds, with these events and maybe idle ticks."""
    scene.p0(outcome)
    audit: Audit | None = drive.audit(outcome, *WHOLE)
    expect_events(outcome, audit, *events)
    if audit is not None:
        ticks = sum(event['frames'] for event in audit.events if event['event'] == IDLE)
        outcome.figures['idle_ticks'] = ticks
    return outcome
