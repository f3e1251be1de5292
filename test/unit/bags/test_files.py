# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Bags are written whole, read in any state, and never believed."""

from pathlib import Path
import re
import resource
import signal
import subprocess
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_bags import IMAGE, ODOMETRY, SHIPPED, drive, listing, write_bag
import pytest
from rosbags.rosbag2 import Reader
import yaml

from td3_agent.bags.bag import Bag, is_latched
from td3_agent.bags.record import BagWriter, WriterParams
from td3_agent.bags.storage import MAX_BYTES, BagError, RawTopic, decompressed

STORAGES = [{'storage': 'mcap'}, {'storage': 'sqlite3'}, {'storage': 'mcap', 'compressed': True}]


def one_sentence_or(path, fewer_messages_than):
    try:
        found = Bag(path).contents().counts.total()
    except BagError as error:
        found, lines = 0, str(error).splitlines()
        assert len(lines) == 1, lines
    assert found < fewer_messages_than


@pytest.fixture(scope='session')
def database(tmp_path_factory):
    path = write_bag(tmp_path_factory.mktemp('whole') / 'bag', drive(6), storage='sqlite3')
    return (path / 'bag_0.db3').read_bytes()


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / 'bag', drive())


@pytest.mark.parametrize('params', STORAGES)
class TestRoundTrip:
    def test_what_was_written_is_read_by_us_and_others_whatever_is_beside(self, params, tmp_path):
        path = write_bag(tmp_path / 'bag', drive(), **params)
        names = [name for name, _, _ in listing(path)]
        assert names == [ODOMETRY, IMAGE] * 12
        contents = Bag(path).contents()
        assert contents.counts == {ODOMETRY: 12, IMAGE: 12}
        assert contents.topics[IMAGE].msgtype == 'sensor_msgs/msg/Image'
        assert not contents.torn

        with Reader(path) as reader:
            theirs = [(c.topic, t, bytes(data)) for c, t, data in reader.messages()]
        assert theirs == listing(path)
        (file,) = (p for p in path.iterdir() if p.suffix in {'.mcap', '.db3'})
        assert listing(file) == theirs
        (path / 'metadata.yaml').unlink()
        assert listing(path) == theirs

    def test_rosbag2_finds_the_file(self, params, tmp_path, monkeypatch):
        """``ros2 bag reindex`` takes files of this name alone; ``info`` shows the distribution."""
        monkeypatch.setenv('ROS_DISTRO', 'jazzy')
        path = write_bag(tmp_path / 'a bag', drive(), **params)
        (file,) = (p.name for p in path.iterdir() if p.suffix in {'.mcap', '.db3'})
        assert file.startswith('a bag_0.')
        assert re.fullmatch(r'.+_(\d+)\.([a-zA-Z0-9])+', file)
        about = yaml.safe_load((path / 'metadata.yaml').read_text())
        about = about['rosbag2_bagfile_information']
        assert about['relative_file_paths'] == [file]
        assert [part['path'] for part in about['files']] == [file]
        assert about['ros_distro'] == 'jazzy'
        content = (path / file).read_bytes()
        assert b'jazzy' in content
        assert b'ros_distro: rosbags' not in content


class TestWriter:
    def test_does_not_overwrite(self, bag):
        with pytest.raises(BagError, match='exists already'):
            BagWriter(bag)

    def test_full_queue_drops_and_counts(self, tmp_path):
        writer = BagWriter(tmp_path / 'bag', WriterParams(queue_bytes=10, min_free_mb=0.0))
        assert not writer.put('/large', 1, b'x' * 11)
        writer.close()
        assert writer.dropped == {'/large': 1}
        metadata = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())
        about = metadata['rosbag2_bagfile_information']['custom_data']
        assert about['dropped'] == '{"/large": 1}'

    def test_too_little_free_space_is_refused_at_once(self, tmp_path):
        with pytest.raises(BagError, match='must stay free'):
            BagWriter(tmp_path / 'bag', WriterParams(min_free_mb=1e12))
        assert not (tmp_path / 'bag').exists()

    def test_ends_at_its_largest_size(self, tmp_path):
        path = write_bag(tmp_path / 'bag', drive(60), max_size_mb=0.01)
        assert 0.01e6 <= sum(len(data) for _, _, data in listing(path)) < 0.02e6
        assert (path / 'metadata.yaml').exists()

    @pytest.mark.parametrize(
        'wrong',
        [
            {'storage': 'tape'},
            {'storage': 'sqlite3', 'compressed': True},
            {'min_free_mb': float('nan')},
        ],
    )
    def test_refuses(self, wrong):
        with pytest.raises(BagError):
            WriterParams(**wrong)


# A writer that says when it has flushed, and then waits to be killed.
KILLED = """
import sys, time
sys.path[:0] = {paths!r}
from made_bags import *
from td3_agent.bags.record import BagWriter
close, BagWriter.close = BagWriter.close, lambda self: None
flush = BagWriter._flush
written = []
BagWriter._flush = lambda self: (flush(self), written.append(self.written.total()))
from pathlib import Path
class Stay(Exception): pass
def stay(self):
    while not written or written[-1] < 40:
        time.sleep(0.01)
    sys.stdout.write('flushed\\n'); sys.stdout.flush()
    time.sleep(60)
BagWriter.close = stay
write_bag(Path({path!r}), drive(20), storage={storage!r})
"""


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_what_was_flushed_outlives_a_kill(storage, tmp_path):
    path = tmp_path / 'bag'
    program = KILLED.format(paths=[str(Path(__file__).parent)], path=str(path), storage=storage)
    with subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b'flushed\n'
        process.send_signal(signal.SIGKILL)
    assert not (path / 'metadata.yaml').exists()
    assert len(listing(path)) == 40
    assert bool(Bag(path).contents().torn) == (storage == 'mcap')


FULL = """
import sys, resource, signal
sys.path[:0] = {paths!r}
from made_bags import *
from pathlib import Path
from td3_agent.bags.record import BagWriter, WriterParams
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
try:
    write_bag(Path({path!r}), drive(4000))
except AssertionError:
    pass
import threading
ended = threading.Event()
writer = BagWriter(Path({path!r} + '2'), WriterParams(min_free_mb=0.0), ended.set)
from td3_agent.bags.record import RecordedTopic
writer.add_topic(RecordedTopic('/x', 'std_msgs/msg/String', known_types()))
while not ended.is_set():
    writer.put('/x', 1, bytes(100_000))
    ended.wait(0.001)
writer.close()
print(writer.failure)
"""


def test_full_disk_is_one_error_and_the_bag_stays_readable(tmp_path):
    """A file size limit stands in for the disk: it fails the same call."""
    path = tmp_path / 'bag'
    program = FULL.format(paths=[str(Path(__file__).parent)], path=str(path))
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True
    )
    assert done.stdout.count('\n') == 1
    assert 'cannot be written: File too large' in done.stdout
    assert not done.stderr
    assert len(list(Bag(path).messages())) > 500
    assert len(list(Bag(Path(f'{path}2')).messages())) >= 20


class TestNotTrusted:
    def damaged(self, bag, change):
        file = bag / 'bag_0.mcap'
        content = bytearray(file.read_bytes())
        change(content)
        file.write_bytes(content)
        return bag

    def test_no_bag(self, tmp_path):
        with pytest.raises(BagError, match='there is no bag'):
            Bag(tmp_path / 'nothing')
        with pytest.raises(BagError, match=r'no \.mcap or \.db3 file'):
            Bag(tmp_path)

    @pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
    def test_another_kind_of_file(self, suffix, tmp_path):
        file = tmp_path / f'bag{suffix}'
        file.write_bytes(b'hello')
        with pytest.raises(BagError, match='not an'):
            Bag(file).contents()

    @pytest.mark.parametrize(
        'name', ['../secret.mcap', '/etc/passwd', '..', 'a/b/c.mcap', '', 'other/bag_0.mcap']
    )
    def test_metadata_cannot_point_elsewhere(self, name, bag):
        (bag.parent / 'secret.mcap').write_bytes((bag / 'bag_0.mcap').read_bytes())
        self.point_at(bag, name)
        with pytest.raises(BagError, match='must lie in the folder'):
            Bag(bag)

    def test_nor_through_a_link(self, bag):
        (bag.parent / 'secret.mcap').write_bytes((bag / 'bag_0.mcap').read_bytes())
        (bag / 'link.mcap').symlink_to(bag.parent / 'secret.mcap')
        self.point_at(bag, 'link.mcap')
        with pytest.raises(BagError, match='must lie in the folder'):
            Bag(bag)

    def point_at(self, bag, name):
        metadata = yaml.safe_load((bag / 'metadata.yaml').read_text())
        metadata['rosbag2_bagfile_information']['relative_file_paths'] = [name]
        (bag / 'metadata.yaml').write_text(yaml.safe_dump(metadata))

    def test_paths_of_old_bags_are_known(self, bag):
        before = listing(bag)
        self.point_at(bag, 'bag/bag_0.mcap')
        assert listing(bag) == before

    @pytest.mark.parametrize(
        'text',
        [
            '!!python/object/apply:os.system ["touch /tmp/never"]',
            '[' * 5000,
            'a: &a [*a]',
            'rosbag2_bagfile_information: 3',
            '\x00\xff',
        ],
    )
    def test_metadata_that_is_none(self, text, bag):
        (bag / 'metadata.yaml').write_text(text)
        with pytest.raises(BagError, match=r'metadata\.yaml'):
            Bag(bag)

    def test_announced_sizes_take_no_memory(self, bag):
        def change(content):
            content[8 + 1 : 8 + 9] = (2**62).to_bytes(8, 'little')

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(BagError, match='no valid record at byte 8'):
            Bag(self.damaged(bag, change)).contents()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000

    def test_decompression_is_bounded(self):
        from lz4 import frame

        from td3_agent.bags.storage import zstd

        for form, data in (
            ('zstd', zstd.compress(bytes(10_000_000))),
            ('lz4', frame.compress(bytes(10_000_000))),
        ):
            assert decompressed(data, form, 'x', 10_000_000) == bytes(10_000_000)
            with pytest.raises(BagError, match='must hold 1000 bytes'):
                decompressed(data, form, 'x', 1000)
            with pytest.raises(BagError, match='at most'):
                decompressed(data, form, 'x', MAX_BYTES + 1)
        with pytest.raises(BagError, match='must be zstd or lz4'):
            decompressed(b'', 'exec', 'x', 0)

    @settings(max_examples=150)
    @given(data=st.data())
    def test_damage_gives_one_sentence_or_fewer_messages(self, data, tmp_path_factory):
        """Any bytes changed or cut off: a list of messages, or a BagError."""
        content = bytearray((SHIPPED / 'bag_0.mcap').read_bytes()[:60_000])
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file = tmp_path_factory.mktemp('damaged') / 'bag_0.mcap'
        file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        one_sentence_or(file, 2000)
        file.unlink()

    @settings(max_examples=60)
    @given(at=st.integers(0, 40_000), value=st.binary(min_size=1, max_size=64))
    @example(at=15642, value=b'\x80')  # an error that quotes what it could not read, in lines
    @example(at=3207, value=b'\x1c')  # one of the other characters that end a line
    @pytest.mark.slow
    def test_damaged_databases_too(self, at, value, database, tmp_path_factory):
        content = bytearray(database)
        at %= len(content)
        content[at : at + len(value)] = value
        file = tmp_path_factory.mktemp('damaged') / 'bag_0.db3'
        file.write_bytes(content)
        one_sentence_or(file, 25)

    def test_a_view_is_no_table(self, tmp_path):
        import sqlite3

        file = tmp_path / 'bag_0.db3'
        with sqlite3.connect(file) as connection:
            connection.execute('CREATE TABLE topics(id, name, type, serialization_format)')
            connection.execute('CREATE VIEW messages AS SELECT 1 AS id')
        connection.close()
        with pytest.raises(BagError, match='must have tables'):
            Bag(file).contents()


def test_latched_topics_are_known_by_their_profiles():
    assert is_latched(RawTopic('/a', 't', '- durability: 1'))
    assert is_latched(RawTopic('/a', 't', '- durability: transient_local'))
    assert not is_latched(RawTopic('/a', 't', '- durability: 2'))
    assert not is_latched(RawTopic('/a', 't', ''))
    assert not is_latched(RawTopic('/a', 't', '{'))
    assert not is_latched(RawTopic('/a', 't', '- [' * 30000))
