# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Bags over ROS: what a drive says is recorded, and drives an agent again, bit for bit."""

from contextlib import contextmanager
import json
from pathlib import Path
import signal
import subprocess
import sys

import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')

from td3_agent.bags.bag import Bag, is_latched
from td3_agent.bags.inputs import find_inputs
from td3_agent.driving.ledger import read_ledger
from td3_agent.processes import ros_environment

SHIPPED = Path(__file__).parents[1] / 'bags' / 'oval'
FRAMES = 60
DEADLINE_S = 120.0
pytestmark = pytest.mark.system


def run(*words):
    """Run the command line; return what came of it."""
    command = [sys.executable, '-m', 'td3_agent', *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Results of a short drive that was recorded."""
    pytest.importorskip('carla')
    out = tmp_path_factory.mktemp('bags') / 'demo'
    words = ('--record', '--duration', 0.05 * FRAMES, '--real-time-factor', 0.0)
    done = run('demo', *words, '--map', 'oval', '--out', out)
    assert done.returncode == 0, done.stderr
    return out


class TestRecordedDemo:
    def test_every_topic_of_the_loop_is_there(self, demo):
        contents = Bag(demo / 'bag').contents()
        role = '/carla/ego_vehicle'
        per_frame = ('camera/image', 'camera/camera_info', 'odometry', 'vehicle_status')
        per_frame += ('vehicle_control_cmd', 'twist_stamped', 'gate/frame_report')
        for name in per_frame:
            assert contents.counts[f'{role}/{name}'] >= FRAMES, name
        assert {'/clock', '/carla/status', '/carla/control'} <= set(contents.topics)
        for name in ('/carla/world_info', f'{role}/vehicle_info', f'{role}/waypoints'):
            assert contents.counts[name] == 1
            assert is_latched(contents.topics[name])
        assert not contents.torn

    def test_offline_it_is_the_drive_again(self, demo, tmp_path):
        done = run('replay', demo / 'bag', '--expect', demo / 'ledger.jsonl', '--out', tmp_path)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / 'summary.json').read_text())
        assert FRAMES <= summary['frames'] == summary['actions_equal']  # and idle ticks

    def test_formats_that_do_not_fit_are_rejected_before_the_drive(self, tmp_path):
        words = ('--record', '--record-storage', 'sqlite3', '--record-compression', 'zstd')
        done = run('demo', *words, '--out', tmp_path / 'none')
        assert done.returncode != 0
        assert 'needs --record-storage mcap, got sqlite3' in done.stderr
        assert not (tmp_path / 'none').exists()

    def test_live_too(self, demo, tmp_path):
        words = ('--live', '--start-agent', '--rate', 4, '--out', tmp_path)
        done = run('replay', demo / 'bag', '--expect', demo / 'ledger.jsonl', *words)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / 'summary.json').read_text())
        assert FRAMES <= summary['frames'] == summary['actions_equal']  # and idle ticks
        assert summary['pairing']['answered_without_frame'] == 0


@pytest.fixture
def play(ros):
    """Return a function that plays a bag to an agent, both in this process."""
    from td3_agent.bags.live import LiveParams, PlayerNode
    from td3_agent.nodes.td3_agent_node import Td3AgentNode

    def start(path, until=lambda player: player.finished.done(), **params):
        bag = Bag(path)
        contents = bag.contents()
        inputs = find_inputs(contents)
        ros.make(Td3AgentNode, policy='lane')
        player = PlayerNode(bag, contents, inputs, LiveParams(**params), context=ros.context)
        ros.nodes.append(player)
        ros.executor.add_node(player)
        player.play()
        ros.spin_until(lambda: until(player), 'the bag is over', DEADLINE_S)
        assert not player.error
        return player

    return start


def sights(records):
    """What tells one frame's answer from another's."""
    return [(r['stamp_ns'], r['observation_sha256'], r['action_sha256']) for r in records]


class TestPlayer:
    def test_a_loop_starts_anew(self, play):
        player = play(SHIPPED, lambda player: player.rounds >= 2, rate=50.0, loop=True)
        once = sights(read_ledger(SHIPPED / 'ledger.jsonl'))
        twice = sights(player.replay.records)
        # The last bits of a network depend on the processor, the images do not.
        assert [stamp for stamp, _, _ in twice[:160]] == [stamp for stamp, _, _ in once] * 2
        assert twice[:80] == twice[80:160]

    def test_an_offset_leaves_the_beginning_out(self, play):
        bag = Bag(SHIPPED)
        middle_ns = [message.received_ns for message in bag.messages(['/clock'])][40]
        offset_s = (middle_ns - bag.contents().first_ns) / 1e9
        player = play(SHIPPED, rate=50.0, start_offset_s=offset_s)
        every = [r['stamp_ns'] for r in read_ledger(SHIPPED / 'ledger.jsonl')]
        answered = [record['stamp_ns'] for record in player.replay.records]
        assert 0 < len(answered) < 80
        assert answered == every[-len(answered) :]

    def test_no_agent_is_one_sentence(self, ros, monkeypatch):
        from td3_agent.bags import live

        monkeypatch.setattr(live, 'AGENT_PATIENCE_S', 0.5)
        bag = Bag(SHIPPED)
        contents = bag.contents()
        player = live.PlayerNode(
            bag, contents, find_inputs(contents), live.LiveParams(), context=ros.context
        )
        ros.nodes.append(player)
        ros.executor.add_node(player)
        player.play()
        ros.spin_until(player.finished.done, 'given up')
        assert 'no agent is ready' in player.error


@contextmanager
def recorder(ros, out, *words):
    """A recorder of the test's domain, listening."""
    command = [sys.executable, '-m', 'td3_agent', 'record', '--out', str(out), *words]
    environment = ros_environment(ros.domain_id)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout.readline().startswith('recording to')
            yield process
        finally:
            process.kill()


class TestRecorder:
    def test_early_late_latched_and_best_effort_topics(self, ros, tmp_path):
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from std_msgs.msg import String

        from td3_agent.nodes.runtime import LATCHED

        early = ros.talk(String, '/carla/map', LATCHED)
        early.publish(String(data='early'))
        with recorder(ros, tmp_path / 'bag') as process:
            ros.spin_until(early.get_subscription_count, 'the recorder listens')
            profile = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
            late = ros.talk(String, '/carla/hero/late', profile)
            other = ros.talk(String, '/elsewhere')
            ros.spin_until(late.get_subscription_count, 'it listens to the late one')
            late.publish(String(data='late'))
            other.publish(String(data='not of the loop'))
            file = tmp_path / 'bag' / 'bag_0.mcap'
            ros.spin_until(lambda: b'late\0' in file.read_bytes(), 'it is written')
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 0
        contents = Bag(tmp_path / 'bag').contents()
        assert {'/carla/map', '/carla/hero/late'} <= set(contents.topics)
        assert '/elsewhere' not in contents.topics
        assert is_latched(contents.topics['/carla/map'])
        assert not is_latched(contents.topics['/carla/hero/late'])
        assert (tmp_path / 'bag' / 'metadata.yaml').exists()
