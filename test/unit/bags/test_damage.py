# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A damaged bag is read up to the damage, which the error locates; nothing is invented."""

import re
import sqlite3

from made_bags import IMAGE, drive, listing, make, write_bag
import numpy as np
import pytest

from td3_agent.bags.bag import Bag
from td3_agent.bags.storage import BagError

STORAGES = {
    'mcap': {'storage': 'mcap'},
    'mcap zstd': {'storage': 'mcap', 'compressed': True},
    'sqlite3': {'storage': 'sqlite3'},
}
CHUNK = 6


def long_drive():
    """Messages larger than a page of SQLite, in several chunks of MCAP."""
    for i, (topic, received_ns, message) in enumerate(drive(60)):
        yield topic, received_ns, message
        if i % 2:
            noise = np.random.default_rng(i).bytes(30_000).hex()
            text = make('std_msgs/msg/String', data=noise)
            yield '/text', received_ns + 500, text


@pytest.fixture(scope='module', params=STORAGES)
def whole(request, tmp_path_factory):
    """The file of a bag and its messages."""
    path = write_bag(
        tmp_path_factory.mktemp('whole') / 'bag', long_drive(), **STORAGES[request.param]
    )
    (file,) = (p for p in path.iterdir() if p.suffix in {'.mcap', '.db3'})
    return file, listing(path)


def damaged(whole, tmp_path, change):
    """A copy whose bytes were changed, without metadata.yaml."""
    file, messages = whole
    copy = tmp_path / file.name
    content = bytearray(file.read_bytes())
    copy.write_bytes(change(content) or content)
    return copy, messages


def check_damage(path, messages, least):
    """Some of the messages are read, unchanged, and the damage says how many."""
    found = listing(path)
    assert found == messages[: len(found)]
    assert least <= len(found)
    (damage,) = Bag(path).contents().torn
    assert f'read before that: {len(found)} messages' in damage
    assert 0 < len(found) < len(messages)
    return damage


@pytest.mark.parametrize('fraction', [0.3, 0.5, 0.8])
class TestTails:
    def test_zeros(self, fraction, whole, tmp_path):
        def change(content):
            keep = int(fraction * len(content))
            content[keep:] = bytes(len(content) - keep)

        path, messages = damaged(whole, tmp_path, change)
        damage = check_damage(path, messages, least=0.1 * len(messages))
        assert path.suffix == '.db3' or 'zeros follow' in damage

    def test_cut_off(self, fraction, whole, tmp_path):
        path, messages = damaged(
            whole, tmp_path, lambda content: content[: int(fraction * len(content))]
        )
        check_damage(path, messages, least=0.1 * len(messages))

    def test_noise(self, fraction, whole, tmp_path):
        def change(content):
            keep = int(fraction * len(content))
            content[keep:] = b'\xa5' * (len(content) - keep)

        path, messages = damaged(whole, tmp_path, change)
        found = listing(path)
        assert Bag(path).contents().torn
        # SQLite has no checksum: the message in which it begins may be read; none behind it is.
        sure = len(found) - (path.suffix == '.db3')
        assert found[:sure] == messages[:sure]
        assert found


def test_zeros_in_the_middle(whole, tmp_path):
    """The end of the file is whole, with its index: what comes before the zeros is read."""
    size = whole[0].stat().st_size

    def change(content):
        content[size // 2 : size // 2 + 80_000] = bytes(80_000)

    path, messages = damaged(whole, tmp_path, change)
    check_damage(path, messages, least=0.1 * len(messages))


def test_a_cut_anywhere_leaves_a_beginning(whole, tmp_path):
    size, before = whole[0].stat().st_size, 0
    for cut in range(size // 20, size, size // 20):
        path, messages = damaged(whole, tmp_path, lambda content, cut=cut: content[:cut])
        found = listing(path)
        assert found == messages[: len(found)]
        assert len(found) >= before
        before = len(found)
    assert before > 0.7 * len(messages)


def chunks(content):
    """Begin and end of every chunk record of an MCAP file."""
    at = 8
    while at < len(content) - 8:
        end = at + 9 + int.from_bytes(content[at + 1 : at + 9], 'little')
        if content[at] == CHUNK:
            yield at, end
        at = end


def test_wrong_checksum(tmp_path):
    path = write_bag(tmp_path / 'bag', long_drive())
    messages, file = listing(path), path / 'bag_0.mcap'
    content = bytearray(file.read_bytes())
    places = list(chunks(content))
    assert len(places) >= 2
    at, end = places[1]
    content[(at + end) // 2] ^= 1
    file.write_bytes(content)
    damage = check_damage(path, messages, least=20)
    assert f'chunk at byte {at}: its checksum does not match' in damage


def test_a_chunk_that_is_cut_off_and_damaged(tmp_path):
    """The chunks before it are read."""
    file = write_bag(tmp_path / 'bag', long_drive(), compressed=True) / 'bag_0.mcap'
    messages, content = listing(file), bytearray(file.read_bytes())
    at, end = list(chunks(content))[1]
    content[at + 53 : at + 57] = bytes(4)  # where the frame of zstd begins
    file.write_bytes(content[: (at + end) // 2])
    assert f'chunk at byte {at}: cannot be decompressed' in check_damage(file, messages, least=20)


def test_nothing_left_is_an_error(whole, tmp_path):
    path, _ = damaged(whole, tmp_path, lambda content: content[:50])
    with pytest.raises(BagError, match=re.escape(str(path))) as refused:
        Bag(path).contents()
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize('blank', [b'', bytes(4096)])
def test_metadata_lost_in_a_power_cut(blank, tmp_path):
    path = write_bag(tmp_path / 'bag', drive())
    before = listing(path)
    (path / 'metadata.yaml').write_bytes(blank)
    assert listing(path) == before


def test_the_last_part_of_a_split_bag_is_blank(tmp_path):
    path = write_bag(tmp_path / 'bag', drive())
    before = listing(path)
    (path / 'metadata.yaml').unlink()
    (path / 'bag_1.mcap').write_bytes(bytes(5000))
    contents = Bag(path).contents()
    assert listing(path) == before
    assert [text for text in contents.torn if 'bag_1.mcap: not an MCAP file' in text]


class TestDatabase:
    def overwrite_page_of(self, file, table):
        """Fill the first page of a table or an index with noise."""
        with sqlite3.connect(file) as connection:
            query = 'SELECT rootpage FROM sqlite_master WHERE name = ?'
            ((page,),) = connection.execute(query, (table,))
            ((size,),) = connection.execute('PRAGMA page_size')
        connection.close()
        content = bytearray(file.read_bytes())
        content[(page - 1) * size : page * size] = b'\xa5' * size
        file.write_bytes(content)

    def test_index(self, tmp_path):
        path = write_bag(tmp_path / 'bag', long_drive(), storage='sqlite3')
        before = listing(path)
        self.overwrite_page_of(path / 'bag_0.db3', 'timestamp_idx')
        assert listing(path) == before
        assert not Bag(path).contents().torn

    def test_an_index_that_lacks_rows(self, tmp_path):
        """Nothing in the index says that it is wrong; the table has all of them."""
        path = write_bag(tmp_path / 'bag', drive(), storage='sqlite3')
        before = listing(path)
        with sqlite3.connect(path / 'bag_0.db3') as connection:
            connection.execute('PRAGMA writable_schema = ON')
            query = 'SELECT rootpage FROM sqlite_master WHERE name = ?'
            ((root,),) = connection.execute(query, ('timestamp_idx',))
        connection.close()
        content = bytearray((path / 'bag_0.db3').read_bytes())
        content[(root - 1) * 4096 + 3 : (root - 1) * 4096 + 5] = (2).to_bytes(2, 'big')
        (path / 'bag_0.db3').write_bytes(content)
        assert listing(path) == before

    def test_table(self, tmp_path):
        path = write_bag(tmp_path / 'bag', long_drive(), storage='sqlite3')
        self.overwrite_page_of(path / 'bag_0.db3', 'messages')
        with pytest.raises(BagError, match='malformed'):
            Bag(path).contents()

    def test_every_reading_ends_at_the_same_place(self, tmp_path):
        """A topic that is not hit is not read beyond the damage either."""
        path = write_bag(tmp_path / 'bag', long_drive(), storage='sqlite3')
        file = path / 'bag_0.db3'
        content = bytearray(file.read_bytes())
        noise = np.random.default_rng(61).bytes(30_000).hex().encode()
        page = (content.find(noise[8000:9000]) // 4096) * 4096
        assert page > 0
        content[page : page + 4096] = b'\xff' * 4096
        file.write_bytes(content)
        bag = Bag(path)
        contents = bag.contents()
        assert contents.torn
        read = sum(1 for _ in bag.messages({IMAGE}))
        assert read in {contents.counts[IMAGE] - 1, contents.counts[IMAGE]}
