# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Offline replay: the agent's own code, in the order of stamps, the same bits each time."""

from contextlib import suppress
import hashlib
import json
from pathlib import Path
import subprocess
import sys
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st
from made_bags import (
    IMAGE,
    ODOMETRY,
    SHIPPED,
    SIDE,
    STEP_NS,
    compressed,
    drive,
    header,
    image,
    make,
    odometry,
    write_bag,
)
import numpy as np
import pytest

from td3_agent.__main__ import main
from td3_agent.bags.bag import Bag
from td3_agent.bags.inputs import (
    Input,
    Inputs,
    StampOrder,
    decoded_image,
    find_inputs,
    known_types,
    read_input,
)
from td3_agent.bags.offline import BagWorld, RecordedFacts, Replay, recorded_facts, replay_offline
from td3_agent.bags.replay import first_difference, simulated_s
from td3_agent.bags.storage import BagError, RawMessage, RawTopic
from td3_agent.driving.agent import Agent
from td3_agent.driving.command import TwistConvention
from td3_agent.driving.ledger import read_ledger
from td3_agent.driving.loop import DriverError
from td3_agent.driving.loop import drive as drive_on
from td3_agent.driving.observation import ObservationSpec
from td3_agent.driving.velocity_control import TwistConverter
from td3_agent.nodes.drivers import LoadedDriver

ROOT = Path(__file__).parents[3]
# Of all observation hashes of the shipped bag, one after the other, with actions of zero.
OBSERVATIONS = 'f3ac95dfaec5c8e6568cdaf229a2f5029435d877cc2905df10c687e6517af84a'


class Zero:
    """A driver that does nothing: what it sees depends on the bag alone."""

    def reset(self):
        pass

    def set_route(self, route):
        pass

    def act(self, _):
        return np.zeros(2, dtype=np.float32)


def seen(path, **topics):
    """Replay of a bag by Zero."""
    bag = Bag(path)
    contents = bag.contents()
    loaded = LoadedDriver(Zero(), ObservationSpec(), 'zero')
    return replay_offline(bag, contents, find_inputs(contents, **topics), loaded)


def received(message):
    return message[1]


def hashes(replay):
    return [record['observation_sha256'] for record in replay.records]


def replayed(*words):
    """Exit status of the subcommand."""
    with pytest.raises(SystemExit) as ended:
        main(['replay', *map(str, words)])
    return ended.value.code


class TestShippedBag:
    def test_observations_are_the_same_on_every_machine(self):
        every = hashes(seen(SHIPPED))
        assert len(every) == 80
        assert hashlib.sha256(''.join(every).encode()).hexdigest() == OBSERVATIONS

    def test_actions_are_those_of_the_drive(self, tmp_path):
        pytest.importorskip('torch')
        status = replayed(SHIPPED, '--expect', SHIPPED / 'ledger.jsonl', '--out', tmp_path)
        drive = list(read_ledger(SHIPPED / 'ledger.jsonl'))
        again = list(read_ledger(tmp_path / 'ledger.jsonl'))
        assert [r['stamp_ns'] for r in again] == [r['stamp_ns'] for r in drive]
        # The last bits of a network depend on the instructions of the processor.
        actions = np.array([[r['action'] for r in records] for records in (drive, again)])
        np.testing.assert_allclose(actions[0], actions[1], atol=1e-5)
        assert status == 0 or not np.array_equal(actions[0], actions[1])

    @pytest.mark.slow
    def test_needs_no_ros(self, tmp_path):
        pytest.importorskip('torch')
        program = (
            'import sys\n'
            'class Refuse:\n'
            '    def find_spec(self, name, path=None, target=None):\n'
            "        if name.split('.')[0] in {'rclpy', 'carla_msgs', 'sensor_msgs', "
            "'ament_index_python', 'geometry_msgs', 'builtin_interfaces', 'nav_msgs'}:\n"
            '            raise ImportError(name)\n'
            'sys.meta_path.insert(0, Refuse())\n'
            'from td3_agent.__main__ import main\n'
            'sys.exit(main(sys.argv[1:]))\n'
        )
        for words in (['replay', str(SHIPPED), '--out'], ['report']):
            command = [sys.executable, '-c', program, *words, str(tmp_path)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / 'summary.json').read_text())
        assert summary['frames'] == summary['frames_compared'] == 80


class TestOrder:
    def test_arrival_does_not_matter(self, tmp_path):
        messages = list(drive())
        before = hashes(seen(write_bag(tmp_path / 'a', messages)))
        # Within a topic the order stays, as it does in a recorder.
        images = [m for m in messages if m[0] == IMAGE]
        motions = [m for m in messages if m[0] == ODOMETRY]
        late = [*motions[:6], *images[:6], *motions[6:], *images[6:]]
        assert hashes(seen(write_bag(tmp_path / 'b', late))) == before
        assert len(before) == 12

    def test_a_new_drive_in_the_bag_starts_a_new_stack(self, tmp_path):
        once = hashes(seen(write_bag(tmp_path / 'a', drive(30))))
        twice = seen(write_bag(tmp_path / 'b', [*drive(30), *drive(30)]))
        assert hashes(twice) == once * 2
        assert twice.pairing['resets'] == 1

    def test_a_gap_starts_a_new_stack(self, tmp_path):
        later = 10**9 + 5 * 10**9
        messages = [*drive(5), *drive(5, start_ns=later)]
        first = hashes(seen(write_bag(tmp_path / 'a', drive(5, start_ns=later))))
        assert hashes(seen(write_bag(tmp_path / 'b', messages)))[5:] == first

    def test_half_a_frame_is_no_frame(self, tmp_path):
        images = [m for m in drive(3) if m[0] == IMAGE]
        replay = seen(write_bag(tmp_path / 'a', [*images, (ODOMETRY, 10**18, odometry(5))]))
        assert replay.records == []

    def test_waiting_is_bounded(self):
        order = StampOrder()
        out = [m for i in range(1000) for m in order.add(Input('/a', i, None, 1000 - i))]
        assert len(out) == 1000 - 256
        assert len(list(order.rest())) == 256


class TestImages:
    def png(self, pixels, suffix='.png'):
        cv2 = pytest.importorskip('cv2')
        return cv2.imencode(suffix, pixels)[1].tobytes()

    def test_png_is_as_good_as_raw(self, tmp_path):
        messages = list(drive())
        squeezed = [
            (
                f'{IMAGE}/compressed',
                t,
                compressed(
                    10**9 + i * STEP_NS,
                    'bgra8; png compressed bgr8',
                    self.png(m.data.reshape(SIDE, SIDE, 4)[:, :, :3]),
                ),
            )
            for i, (_, t, m) in enumerate(m for m in messages if m[0] == IMAGE)
        ]
        motions = [m for m in messages if m[0] == ODOMETRY]
        before = hashes(seen(write_bag(tmp_path / 'raw', messages)))
        assert (
            hashes(seen(write_bag(tmp_path / 'png', sorted([*motions, *squeezed], key=received))))
            == before
        )
        both = write_bag(tmp_path / 'both', sorted([*messages, *squeezed], key=received))
        assert hashes(seen(both)) == before

    def test_jpeg_is_close(self):
        pixels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))[:, :, None].repeat(3, 2)
        view = decoded_image('jpeg', np.frombuffer(self.png(pixels, '.jpg'), dtype=np.uint8))
        assert (view.width, view.height, view.encoding) == (64, 64, 'bgr8')
        assert np.abs(view.pixels().astype(int) - pixels).max() < 8

    @pytest.mark.parametrize(
        ('data', 'reason'),
        [
            (b'', 'must be JPEG or PNG'),
            (b'GIF89a' + bytes(40), 'must be JPEG or PNG'),
            (b'\xff\xd8' + bytes(40), 'must be JPEG or PNG'),
            (b'\xff\xd8\xff\xe0\x00\x00' * 20, 'must be JPEG or PNG'),
            (b'\x89PNG\r\n\x1a\n' + bytes(4) + b'IHDR' + b'\xff' * 8, 'sides in'),
            (b'\x89PNG\r\n\x1a\n' + bytes(4) + b'IHDR' + b'\0\0\0\x10' * 2, 'cannot be decoded'),
        ],
    )
    def test_refused_before_it_is_decoded(self, data, reason):
        pytest.importorskip('cv2')
        with pytest.raises(ValueError, match=reason):
            decoded_image('x', np.frombuffer(data, dtype=np.uint8))

    def test_wrong_messages_are_counted_and_left_out(self, tmp_path):
        messages = list(drive())
        messages[3] = (IMAGE, messages[3][1], image(10**9 + STEP_NS))
        messages[3][2].encoding = 'mono16'
        replay = seen(write_bag(tmp_path / 'a', messages))
        assert len(replay.records) == 11
        ((number, reason),) = replay.rejected.values()
        assert number == 1
        assert "got 'mono16'" in reason


class TestTopics:
    def test_the_only_vehicle_and_camera_are_found(self, tmp_path):
        inputs = find_inputs(Bag(write_bag(tmp_path / 'a', drive())).contents())
        assert (inputs.role_name, inputs.image, inputs.odometry) == ('hero', IMAGE, ODOMETRY)

    def test_several_must_be_named(self, tmp_path):
        other = '/carla/hero/rear/image'
        more = [(other, 1, image(1)), ('/carla/ego/odometry', 1, odometry(1))]
        contents = Bag(write_bag(tmp_path / 'a', [*drive(), *more])).contents()
        with pytest.raises(BagError, match='has ego, hero'):
            find_inputs(contents)
        with pytest.raises(BagError, match='camera/image, /carla/hero/rear/image'):
            find_inputs(contents, 'hero')
        assert find_inputs(contents, 'hero', other).image == other

    def test_a_driver_on_a_route_needs_one(self, tmp_path, capsys):
        path = write_bag(tmp_path / 'a', drive())
        assert replayed(path, '--policy', 'pure_pursuit', '--out', tmp_path / 'out') == 2
        assert 'needs /carla/hero/waypoints, which is not in the bag' in capsys.readouterr().err


class TestExpect:
    RECORD = MappingProxyType(
        {'frame': 7, 'stamp_ns': 5, 'action': [0.0, 1.0], 'observation_sha256': 'a'}
    )

    def test_equal(self):
        assert first_difference([self.RECORD], [dict(self.RECORD) | {'frame': 0}]) == ''

    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            ({'action': [0.0, 0.5]}, 'action_sha256 must be'),
            ({'observation_sha256': 'b'}, 'observation_sha256 must be a, got b'),
            ({'stamp_ns': 6}, 'the replay has stamp 6 ns'),
        ],
    )
    def test_names_what_differs(self, change, reason):
        found = first_difference([self.RECORD], [dict(self.RECORD) | change])
        assert found.startswith('frame 0 of the bag (stamp 5 ns, frame 7 in the ledger): ')
        assert reason in found

    def test_too_few_and_too_many(self):
        assert 'missing' in first_difference([self.RECORD] * 2, [self.RECORD])
        assert 'not in the expected' in first_difference([self.RECORD], [self.RECORD] * 2)
        assert 'no frame with an action' in first_difference([], [self.RECORD])

    def test_idle_ticks_are_no_frames(self):
        """The agent infers in them, before a drive and within; the ledger counts them alone."""
        frames = [self.RECORD | {'frame': f, 'stamp_ns': f} for f in range(10)]
        ledger = [record for record in frames if record['frame'] not in {0, 1, 6}]
        assert first_difference(ledger, frames) == ''
        assert 'stamp 5 ns' in first_difference(ledger, frames[:5] + frames[6:])
        assert 'not in the expected' in first_difference(frames[:5], frames)

    def test_the_verb_fails_and_names_it(self, tmp_path, capsys):
        pytest.importorskip('torch')
        words = (SHIPPED, '--policy', 'untrained', '--expect', SHIPPED / 'ledger.jsonl')
        assert replayed(*words, '--out', tmp_path) == 1
        assert 'frame 0 of the bag (stamp ' in capsys.readouterr().err
        summary = json.loads((tmp_path / 'summary.json').read_text())
        assert 'observation_sha256 must be' in summary['first_difference']


def test_two_policies_are_compared(tmp_path, capsys):
    pytest.importorskip('torch')
    words = (SHIPPED, '--policy', 'lane', '--policy', 'pure_pursuit', '--out', tmp_path)
    assert replayed(*words) == 0
    assert 'pure_pursuit' in capsys.readouterr().out
    assert (tmp_path / 'comparison.png').stat().st_size > 10_000
    assert len(list(read_ledger(tmp_path / 'pure_pursuit' / 'ledger.jsonl'))) == 80


def test_what_was_recorded_may_come_before_its_frame():
    facts, record = RecordedFacts(), {'stamp_ns': 5}
    facts.add(5, {'action': [1.0, 0.0]})
    facts.frame(record)
    facts.add(5, {'twist': [2.0, 0.0]}, first=True)
    facts.add(5, {'twist': [0.0, 0.0]}, first=True)
    assert record['recorded'] == {'action': [1.0, 0.0], 'twist': [2.0, 0.0]}


@pytest.mark.parametrize('wrong', ['left', [1.0], [1.0, float('nan')], [10**400, 0], [[], {}]])
def test_a_report_must_hold_numbers(wrong):
    with pytest.raises(ValueError, match='two numbers'):
        recorded_facts({'action': wrong})


@pytest.mark.parametrize('name', ['waypoints', 'vehicle_info', 'agent/frame_report'])
def test_topics_of_another_type_are_refused(name, tmp_path):
    topic = f'/carla/hero/{name}'
    wrong = (topic, 1, make('std_msgs/msg/String', data='x'))
    replay = seen(write_bag(tmp_path / 'a', [wrong, *drive()]))
    assert len(replay.records) == 12
    assert replay.rejected[topic][0] == 1
    assert "got 'std_msgs/msg/String'" in replay.rejected[topic][1]


def test_a_report_that_is_a_trap_is_refused(tmp_path):
    topic = '/carla/hero/agent/frame_report'
    pair = make('diagnostic_msgs/msg/KeyValue', key='action', value='[' * 100_000)
    status = make(
        'diagnostic_msgs/msg/DiagnosticStatus',
        level=0,
        name='',
        message='',
        hardware_id='',
        values=[pair],
    )
    report = make('diagnostic_msgs/msg/DiagnosticArray', header=header(10**9), status=[status])
    replay = seen(write_bag(tmp_path / 'a', [*drive(), (topic, 10**18, report)]))
    assert len(replay.records) == 12
    assert replay.rejected[topic][0] == 1


def test_simulated_time_leaves_jumps_out():
    stamps = [0, STEP_NS, 2 * STEP_NS, 0, STEP_NS]
    assert simulated_s([{'stamp_ns': stamp} for stamp in stamps]) == pytest.approx(0.2)


INPUTS = Inputs(
    role_name='hero',
    image=IMAGE,
    odometry=ODOMETRY,
    info='/carla/hero/vehicle_info',
    path='/carla/hero/waypoints',
    report='/carla/hero/agent/frame_report',
    twist='/carla/hero/twist_stamped',
)
KINDS = [(topic, kind) for topic, kinds in INPUTS.kinds.items() for kind in kinds]


@pytest.mark.parametrize(('topic', 'kind'), KINDS)
@settings(max_examples=60)
@given(data=st.binary(max_size=400), valid_head=st.booleans())
def test_any_bytes_are_a_message_or_refused(topic, kind, data, valid_head):
    data = b'\x00\x01\x00\x00' + data if valid_head else data
    with suppress(ValueError):
        read_input(RawMessage(RawTopic(topic, kind), 0, data), INPUTS)


@settings(max_examples=150)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8))
def test_damaged_messages_are_refused_or_replayed(changes):
    """Any bytes of an image or an odometry changed: the agent goes on."""
    messages = []
    for topic, _, message in drive(2):
        name = message.__msgtype__
        raw = bytearray(known_types().serialize_cdr(message, name))
        for at, value in changes:
            raw[at % len(raw)] = value
        messages.append(RawMessage(RawTopic(topic, name), 0, bytes(raw)))
    world = BagWorld(lambda: iter(messages), INPUTS, Replay('zero'))
    converter = TwistConverter(TwistConvention.VELOCITY)
    assert len(list(drive_on(world, Agent(Zero()), converter))) <= 2


def test_a_driver_that_fails_ends_the_replay_and_is_named():
    class Failing(Zero):
        def act(self, _):
            raise KeyError('out of order')

    bag = Bag(SHIPPED)
    contents = bag.contents()
    loaded = LoadedDriver(Failing(), ObservationSpec(), 'failing')
    with pytest.raises(DriverError, match=r"frame 1: driver failed: 'out of order'"):
        replay_offline(bag, contents, find_inputs(contents), loaded)


class TestUnsoundBags:
    """A replay of what the driver was not trained with is warned of; one of nothing fails."""

    def changed(self, tmp_path, name, change):
        """A drive whose messages, by number and topic, were changed or left out."""
        kept = []
        for number, (topic, at_ns, message) in enumerate(drive(40)):
            if change(topic, number // 2, message):
                kept.append((topic, at_ns, message))
        return write_bag(tmp_path / name, kept)

    def test_a_slow_camera_is_a_warning_that_names_both_rates(self, tmp_path, capsys):
        pytest.importorskip('torch')
        bag = self.changed(tmp_path, 'slow', lambda topic, i, _: topic != IMAGE or i % 2)
        assert replayed(bag, '--out', tmp_path / 'out') == 0
        said = capsys.readouterr().err
        assert 'warning: every second frame has no image: camera 10 Hz, bridge 20 Hz' in said
        assert 'warning: images come at 10 Hz, the policy was trained at 20 Hz' in said
        summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
        assert len(summary['findings']) == 3
        assert 'got 16x16' in summary['findings'][2]['text']

    def test_stamps_that_were_never_set_fail_the_replay(self, tmp_path, capsys):
        pytest.importorskip('torch')

        def unset(_topic, _number, message):
            message.header.stamp.sec = message.header.stamp.nanosec = 0
            return True

        bag = self.changed(tmp_path, 'zero', unset)
        assert replayed(bag, '--policy', 'untrained', '--out', tmp_path / 'out') == 1
        said = capsys.readouterr().err
        assert 'image stamps are missing, 40 of 40 are 0' in said
        assert '1 of 40 images were answered' in said
