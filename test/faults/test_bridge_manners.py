# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases with a bridge that behaves like CARLA's: it plays, restarts, and needs ticks."""

import time

from carla_msgs.msg import CarlaControl
from faults.test_process_faults import expect_a_step_per_frame, expect_events
from harness.rig import AGENT, BRIDGE, SYNCHRONIZER, WHOLE
from harness.watcher import is_stop
from nav_msgs.msg import Path
import pytest
from std_srvs.srv import Trigger

from td3_agent.driving.ledger import IDLE
from td3_agent.nodes import topics
from td3_agent.nodes.bridge_publisher import path_message
from td3_agent.nodes.runtime import LATCHED, RELIABLE
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, make_simulator

UPSTREAM = {'spawned': False, 'start_paused': False, 'play_real_time_factor': 0.0}
PLAYS = 20
SPAWN, DESTROY = '/carla_ros_bridge/spawn', '/carla_ros_bridge/destroy'
PATIENCE_S = 30.0
IDLE_TICKS = 4
GOES_ON_FRAMES = 37  # of a world without a bridge
LEASE_S = 20.0  # of the middleware: how long it remembers a dead process


@pytest.mark.case('F25', f'{PLAYS} x PLAY from another program')
def test_bridge_plays(rig):
    """The bridge is paused again at once, and every free-running frame is counted."""
    drive = rig.drive(parameters={BRIDGE: {'play_real_time_factor': 0.0}})
    rig.wait_good()
    watcher = rig.watcher
    publisher = watcher.node.create_publisher(CarlaControl, topics.CONTROL, RELIABLE)
    rig.wait_for(publisher.get_subscription_count, 'the bridge to listen')
    begun_ns, frames = time.monotonic_ns(), len(watcher.frames())
    for _ in range(PLAYS):
        publisher.publish(CarlaControl(command=CarlaControl.PLAY))
    rig.expect_named(begun_ns, SYNCHRONIZER, 'went on by itself')
    # Free-running frames get responses too: only steps show that the bridge is paused again.
    rig.wait_for(lambda: watcher.steps_sent(begun_ns) > PLAYS, 'steps', PATIENCE_S)
    frame, back_ns = watcher.frames()[-1], time.monotonic_ns()
    rig.wait_good()
    expect_a_step_per_frame(rig, back_ns, frame)
    free = len(watcher.frames()) - frames - watcher.steps_sent(begun_ns)
    audit = drive.finish('file', 'chain', 'events', 'outcomes')
    told = sum(e['frames'] for e in audit.events if e['event'] == 'free_running')
    # A step was under way when it began, and another one may be at the end.
    assert told >= 1
    assert abs(told - free) <= 1, 'frames without a step'
    others = [f for f in audit.checks['frames'].faults if 'skipped' not in f]
    assert others == []
    rig.figures['free_frames'] = told


@pytest.mark.alone
@pytest.mark.case('F26', 'kill -9 of the bridge; the world goes on')
def test_bridge_restarted(rig):
    """Frame and time go on, so only the new process shows it; the ledger has the event."""
    drive = drive_as_upstream(rig)
    frame = rig.watcher.frames()[-1]
    drive.kill(BRIDGE)
    restarted_ns = time.monotonic_ns()
    drive.start(BRIDGE, first_frame=frame + GOES_ON_FRAMES)
    expect_driving_after_spawn(rig, restarted_ns)
    finish(rig, drive, 'bridge_restarted')


@pytest.mark.alone
@pytest.mark.case('F27', 'kill -9 of the bridge; objects spawned after the lease')
def test_bridge_restarted_late(rig):
    """A dead bridge's vehicle in the graph does not count: idle ticks until there is a new one."""
    drive = drive_as_upstream(rig)
    killed_ns = drive.kill(BRIDGE)
    drive.start(BRIDGE)
    rig.pause(LEASE_S + 2.0 - (time.monotonic_ns() - killed_ns) / 1e9)
    expect_driving_after_spawn(rig, time.monotonic_ns())
    finish(rig, drive, 'bridge_restarted')


@pytest.mark.case('F28', 'objects destroyed and spawned again')
def test_objects_exchanged(rig):
    """The paused bridge gets idle ticks, with full brake, until the new objects exist."""
    drive = drive_as_upstream(rig)
    begun_ns = time.monotonic_ns()
    call(rig, DESTROY)
    rig.expect_named(begun_ns, SYNCHRONIZER, f'vehicle of {drive.role}', 'idle ticks')
    expect_idle(rig, time.monotonic_ns())
    expect_driving_after_spawn(rig, time.monotonic_ns())
    finish(rig, drive)


@pytest.mark.case('F29', 'waypoints from a program that starts last')
def test_route_late(rig):
    """It needs a tick to find the car: idle ticks, and diagnostics name the missing route."""
    begun_ns = time.monotonic_ns()
    drive = rig.drive(parameters={BRIDGE: {'waypoints': False}})
    rig.wait_for(
        lambda: rig.watcher.named(begun_ns, 'synchronizer', 'waits for route'),
        'the route to be named',
    )
    rig.expect_named(begun_ns, AGENT, 'no route yet on', limit_s=PATIENCE_S)
    expect_idle(rig, time.monotonic_ns())
    settings = {key: drive.parameters(BRIDGE)[key] for key in ('map', 'spawn_index')}
    route = path_message(make_simulator(SimBridgeParams(**settings)).ego)
    started_ns = time.monotonic_ns()
    # As carla_waypoint_publisher: the topic is there at once, the route only after a tick.
    publisher = rig.watcher.node.create_publisher(Path, topics.waypoints(drive.role), LATCHED)
    ticks = len(rig.watcher.clocks)
    rig.wait_for(lambda: len(rig.watcher.clocks) > ticks, 'a tick', PATIENCE_S)
    publisher.publish(route)
    rig.wait_good(patience_s=PATIENCE_S)
    rig.figures['drives_after_s'] = (time.monotonic_ns() - started_ns) / 1e9
    finish(rig, drive)


def drive_as_upstream(rig):
    """Return a running drive on a bridge that plays at first and spawns on request."""
    drive = rig.drive(parameters={BRIDGE: UPSTREAM})
    call(rig, SPAWN)
    rig.wait_good()
    return drive


def call(rig, service):
    """Call a service of the bridge, which serves at the next tick."""
    client = rig.watcher.node.create_client(Trigger, service)
    rig.wait_for(client.service_is_ready, f'the service {service}')
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:  # the graph remembers a dead bridge's service as well
        future = client.call_async(Trigger.Request())
        if rig.watcher.wait_for(future.done, 1.0):
            rig.watcher.node.destroy_client(client)
            return
    pytest.fail(f'{service}: expected an answer within {PATIENCE_S:g} s')


def expect_idle(rig, since_ns):
    """Expect ticks, one or two a second, and nothing but full brake."""

    def ticks():
        return [clock.at_ns for clock in tuple(rig.watcher.clocks) if clock.at_ns >= since_ns]

    rig.wait_for(lambda: len(ticks()) >= IDLE_TICKS, 'idle ticks', PATIENCE_S)
    times = ticks()
    assert 0.5 <= (len(times) - 1) / (times[-1] - times[0]) * 1e9 <= 3.0, 'idle ticks [Hz]'
    commands = [c.what for c in tuple(rig.watcher.commands) if c.at_ns >= since_ns]
    assert [command for command in commands if not is_stop(command)] == []


def expect_driving_after_spawn(rig, since_ns):
    call(rig, SPAWN)
    rig.wait_good(patience_s=PATIENCE_S)
    rig.figures['drives_after_s'] = (time.monotonic_ns() - since_ns) / 1e9


def finish(rig, drive, *events):
    """Expect P0 and a ledger that holds, with these events and maybe idle ticks."""
    audit = drive.finish(*WHOLE)
    expect_events(audit, *events)
    rig.figures['idle_ticks'] = sum(e['frames'] for e in audit.events if e['event'] == IDLE)
