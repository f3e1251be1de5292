# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where a replay begins, where it must end, and what it says of a bag that it cannot use."""

import json

import pytest

pytest.importorskip('torch')

from made_bags import IMAGE, ODOMETRY, SHIPPED, drive, image, make, odometry, write_bag

from td3_agent.__main__ import main
from td3_agent.bags.bag import Bag
from td3_agent.bags.inputs import begin_ns, find_inputs
from td3_agent.bags.storage import BagError

SHIPPED_IMAGE = '/carla/ego_vehicle/camera/image'
SHIPPED_CONTENTS = Bag(SHIPPED).contents()
LENGTH_S = (SHIPPED_CONTENTS.last_ns - SHIPPED_CONTENTS.first_ns) // 1_000_000 / 1e3


@pytest.fixture
def replayed(tmp_path, capsys):
    """Replay; return exit status, summary and stderr."""

    def run(*words):
        out = tmp_path / 'out'
        with pytest.raises(SystemExit) as ended:
            main(['replay', *map(str, words), '--policy', 'pure_pursuit', '--out', str(out)])
        summary = out / 'summary.json'
        facts = json.loads(summary.read_text()) if summary.exists() else {}
        return ended.value.code, facts, capsys.readouterr().err

    return run


def renamed(change):
    """A short drive under other names of topics."""
    return [(change(topic), at_ns, message) for topic, at_ns, message in drive()]


class TestStartOffset:
    @pytest.mark.parametrize('live', [(), ('--live',)])
    @pytest.mark.parametrize(
        ('offset', 'reason'),
        [
            ('100', f'start offset 100 s is beyond the end of the bag ({LENGTH_S:.1f} s)'),
            ('inf', f'start offset inf s is beyond the end of the bag ({LENGTH_S:.1f} s)'),
            ('-0.1', 'start offset must be >= 0 [s], got -0.1'),
            ('nan', 'start offset must be >= 0 [s], got nan'),
        ],
    )
    def test_refused_before_anything_begins(self, live, offset, reason, replayed):
        status, summary, said = replayed(SHIPPED, *live, f'--start-offset={offset}')
        assert (status, summary) == (2, {})
        assert said == f'td3_agent replay: {reason}\n'

    def test_leaves_the_beginning_out(self, replayed):
        """The route is older than the offset, and still there."""
        received_ns = [m.received_ns for m in Bag(SHIPPED).messages({SHIPPED_IMAGE})]
        offset_s = (received_ns[36] - SHIPPED_CONTENTS.first_ns) / 1e9 - 1e-3
        status, summary, _ = replayed(SHIPPED, '--start-offset', repr(offset_s))
        assert (status, summary['frames']) == (0, len(received_ns) - 36)

    def test_nothing_is_left(self, replayed):
        status, _, said = replayed(SHIPPED, '--start-offset', f'{LENGTH_S:.3f}')
        assert status == 1
        assert said.endswith(f'of the same stamp after the start offset of {LENGTH_S:g} s\n')

    def test_within_the_bag(self, tmp_path):
        contents = Bag(write_bag(tmp_path / 'bag', drive())).contents()
        assert begin_ns(contents, 0.0) == contents.first_ns
        assert begin_ns(contents, 0.25) == contents.first_ns + 250_000_000

    @pytest.mark.parametrize('words', [('--rate', '2'), ('--loop',), ('--start-agent',)])
    def test_options_of_live_replay_need_it(self, words, replayed):
        status, _, said = replayed(SHIPPED, *words)
        assert status == 2
        assert 'need --live' in said


def test_a_damaged_bag_is_reported_and_fails(tmp_path, replayed):
    content = (SHIPPED / 'bag_0.mcap').read_bytes()
    half = len(content) // 2
    (tmp_path / 'bag_0.mcap').write_bytes(content[:half] + bytes(len(content) - half))
    status, summary, said = replayed(tmp_path / 'bag_0.mcap')
    assert status == 1
    assert 30 <= summary['frames'] < 80
    (torn,) = summary['torn']
    assert said.splitlines() == [torn]
    assert f'cut off at byte {half}' in torn or f'cut off at byte {half - 1}' in torn


def test_refused_images_are_the_last_word(tmp_path, replayed):
    """Nothing is said of stamps, which are right."""
    messages = list(drive())
    for topic, _, message in messages:
        if topic == IMAGE:
            message.encoding = '16UC1'
    route = ('/carla/hero/waypoints', 1, make_route())
    status, _, said = replayed(write_bag(tmp_path / 'bag', [route, *messages]))
    assert status == 1
    assert "got '16UC1'" in said
    assert 'same stamp' not in said


def make_route():
    header = odometry(1).header
    pose = odometry(1).pose.pose
    poses = []
    for x in (0.0, 5.0, 10.0):
        at = make('geometry_msgs/msg/Point', x=x, y=0.0, z=0.0)
        moved = make('geometry_msgs/msg/Pose', position=at, orientation=pose.orientation)
        poses.append(make('geometry_msgs/msg/PoseStamped', header=header, pose=moved))
    return make('nav_msgs/msg/Path', header=header, poses=poses)


class TestTopics:
    def refusal(self, tmp_path, messages, role_name=''):
        contents = Bag(write_bag(tmp_path / 'bag', messages)).contents()
        with pytest.raises(BagError) as refused:
            find_inputs(contents, role_name)
        return str(refused.value)

    @pytest.mark.parametrize(
        ('kept', 'role_name', 'lacks', 'has'),
        [
            ({IMAGE}, '', '/carla/ROLE/odometry (nav_msgs/msg/Odometry)', IMAGE),
            ({IMAGE, ODOMETRY}, 'ego', '/carla/ego/odometry (nav_msgs/msg/Odometry)', ODOMETRY),
            ({ODOMETRY}, '', "one camera of 'hero' (or name it with --image-topic)", ODOMETRY),
        ],
    )
    def test_what_is_missing_is_named_beside_what_is_there(
        self, kept, role_name, lacks, has, tmp_path
    ):
        said = self.refusal(tmp_path, [m for m in drive() if m[0] in kept], role_name)
        none = 'it has' if kept == {IMAGE, ODOMETRY} else 'it has no such topic, but'
        assert said.startswith(f'the bag must have {lacks}, {none} {has}')

    @pytest.mark.parametrize('prefix', ['/robot1', '/a/b'])
    def test_a_namespace(self, prefix, tmp_path):
        """The options that are named are those with which it is read."""
        other = [('/x/odometry', 1, odometry(1)), ('/x/image', 1, image(1))]
        messages = [*renamed(lambda topic: prefix + topic), *other[:1]]
        said = self.refusal(tmp_path, messages)
        odometry_topic, image_topic = prefix + ODOMETRY, prefix + IMAGE
        assert said.endswith(
            f'--role-name hero --odometry-topic {odometry_topic} --image-topic {image_topic}'
        )
        inputs = find_inputs(Bag(tmp_path / 'bag').contents(), 'hero', image_topic, odometry_topic)
        assert (inputs.image, inputs.odometry) == (image_topic, odometry_topic)

    def test_topics_of_no_vehicle(self, tmp_path):
        names = {ODOMETRY: '/odom', IMAGE: '/camera/image_raw'}
        said = self.refusal(tmp_path, renamed(names.get))
        assert said.endswith(
            '--role-name ego_vehicle --odometry-topic /odom --image-topic /camera/image_raw'
        )
