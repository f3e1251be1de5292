# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Bags whose files were compressed as a whole, and files that are no bag at all."""

import shutil

from made_bags import IMAGE, ODOMETRY, drive, image, listing, write_bag
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import yaml

from td3_agent.bags import storage
from td3_agent.bags.bag import Bag
from td3_agent.bags.inputs import known_types
from td3_agent.bags.storage import BagError, zstd


def rewrite(path, change):
    """Change what a metadata.yaml says."""
    metadata = yaml.safe_load((path / 'metadata.yaml').read_text())
    change(metadata['rosbag2_bagfile_information'])
    (path / 'metadata.yaml').write_text(yaml.safe_dump(metadata))


@pytest.fixture(params=['mcap', 'sqlite3'])
def plain(request, tmp_path):
    return write_bag(tmp_path / 'bag', drive(), storage=request.param)


def compress(path):
    """Compress the files as ``ros2 bag record --compression-mode file`` does."""
    (file,) = (p for p in path.iterdir() if p.suffix in {'.mcap', '.db3'})
    packed = file.with_name(file.name + '.zstd')
    packed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()

    def change(about):
        about['relative_file_paths'] = [packed.name]
        about |= {'compression_mode': 'FILE', 'compression_format': 'zstd'}

    rewrite(path, change)
    return packed


class TestRead:
    def test_as_it_was_recorded(self, plain):
        before = listing(plain)
        packed = compress(plain)
        assert listing(plain) == listing(packed) == before
        assert not Bag(plain).contents().torn
        assert {m.topic.name for m in Bag(plain).messages({ODOMETRY})} == {ODOMETRY}

    def test_nothing_is_left_behind(self, plain, tmp_path, monkeypatch):
        monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'temporary'))
        (tmp_path / 'temporary').mkdir()
        compress(plain)
        assert listing(plain)
        next(Bag(plain).messages())  # given up after the first
        assert not list((tmp_path / 'temporary').iterdir())

    @pytest.mark.parametrize('kept', [True, False])
    def test_decompressed_beside(self, kept, plain):
        before = listing(plain)
        packed = compress(plain)
        packed.with_suffix('').write_bytes(zstd.decompress(packed.read_bytes()))
        if not kept:
            packed.unlink()
        assert listing(plain) == before

    def test_compressed_by_hand(self, plain):
        """The metadata names the plain file; ``zstd`` calls its own .zst."""
        before = listing(plain)
        packed = compress(plain)
        packed.rename(packed.with_suffix('.zst'))

        def change(about):
            about['relative_file_paths'] = [packed.stem]

        rewrite(plain, change)
        assert listing(plain) == before

    def test_without_metadata(self, plain):
        before = listing(plain)
        packed = compress(plain)
        (plain / 'metadata.yaml').unlink()
        assert listing(plain) == before
        packed.with_suffix('').write_bytes(zstd.decompress(packed.read_bytes()))
        assert listing(plain) == before  # not twice

    def test_split(self, tmp_path):
        folder = tmp_path / 'parts'
        folder.mkdir()
        for number in (10, 9):
            one = write_bag(tmp_path / f'b{number}', [(IMAGE, number, image(number))])
            shutil.copy(compress(one), folder / f'parts_{number}.mcap.zstd')
        assert [received for _, received, _ in listing(folder)] == [9, 10]

    @pytest.mark.parametrize('plugin', list(StoragePlugin))
    def test_message_by_message(self, plugin, tmp_path):
        store = known_types()
        writer = Writer(tmp_path / 'bag', version=8, storage_plugin=plugin)
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
        writer.open()
        known, before = {}, []
        for topic, received_ns, message in drive():
            name = message.__msgtype__
            if topic not in known:
                known[topic] = writer.add_connection(topic, name, typestore=store)
            before.append((topic, received_ns, bytes(store.serialize_cdr(message, name))))
            writer.write(known[topic], *before[-1][1:])
        writer.close()
        assert listing(tmp_path / 'bag') == before
        (file,) = (p for p in (tmp_path / 'bag').iterdir() if p.suffix in {'.mcap', '.db3'})
        content, frame = file.read_bytes(), zstd.compress(before[10][2])
        assert content.count(frame) == 1
        file.write_bytes(content.replace(frame, b'?' * len(frame)))
        assert listing(tmp_path / 'bag') == before[:10]
        (damage,) = Bag(tmp_path / 'bag').contents().torn
        assert f'{file}: message 10, of {before[10][0]}: cannot be decompressed (zstd)' in damage


class TestNotTrusted:
    def test_more_than_it_may_hold(self, plain, tmp_path, monkeypatch):
        monkeypatch.setattr(storage, 'ALWAYS_BYTES', 1000)
        monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'temporary'))
        (tmp_path / 'temporary').mkdir()
        packed = compress(plain)
        packed.write_bytes(zstd.compress(bytes(20_000_000)))
        with pytest.raises(
            BagError, match=r'must hold at most .* bytes, holds more; or .*zstd -d'
        ):
            Bag(plain).contents()
        assert not list((tmp_path / 'temporary').iterdir())

    def test_no_room(self, plain, monkeypatch):
        monkeypatch.setattr(storage, 'MIN_FREE_BYTES', 2**70)
        compress(plain)
        with pytest.raises(BagError, match=r'no room in .*: set TMPDIR to another folder'):
            Bag(plain).contents()

    def test_no_zstd(self, plain):
        compress(plain).write_bytes(b'hello' * 100)
        with pytest.raises(BagError, match='cannot be decompressed beyond byte 0'):
            Bag(plain).contents()

    def test_cut_off(self, tmp_path):
        path = write_bag(tmp_path / 'bag', drive(1500))
        before = listing(path)
        packed = compress(path)
        packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
        found = listing(path)
        assert found == before[: len(found)]
        assert 100 < len(found) < len(before)
        (damage,) = Bag(path).contents().torn
        assert 'bag_0.mcap.zstd: cannot be decompressed beyond byte' in damage
        assert 'td3_agent_bag_' not in damage

    def test_stays_in_its_folder(self, plain):
        packed = compress(plain)
        packed.rename(plain.parent / packed.name)
        packed.symlink_to(plain.parent / packed.name)
        with pytest.raises(BagError, match='must lie in the folder'):
            Bag(plain)


class TestOtherFiles:
    @pytest.mark.parametrize(
        ('name', 'remedy'),
        [
            ('bag_0.mcap.lz4', 'lz4 -d '),
            ('bag_0.db3.gz', 'gunzip '),
            ('bag.tar', 'tar xf '),
            ('drive.bag', 'rosbags-convert --src '),
        ],
    )
    def test_the_remedy_is_named(self, name, remedy, tmp_path):
        (tmp_path / name).touch()
        for path in (tmp_path, tmp_path / name):
            with pytest.raises(BagError, match=remedy):
                Bag(path)

    def test_a_folder_above(self, tmp_path):
        write_bag(tmp_path / 'demo' / 'bag', drive(1))
        with pytest.raises(BagError, match=f'did you mean {tmp_path}/demo/bag[?]$'):
            Bag(tmp_path)

    def test_a_policy(self, tmp_path):
        policy = tmp_path / 'best.safetensors'
        policy.touch()
        for path in (tmp_path, policy):
            with pytest.raises(BagError, match=f'is a policy: --policy {policy}$'):
                Bag(path)

    @pytest.mark.parametrize('name', ['bag_0.mcap', 'bag_0.db3'])
    def test_git_lfs_pointer(self, name, tmp_path):
        (tmp_path / name).write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
        with pytest.raises(BagError, match=f'{name}: a Git LFS pointer .*: git lfs pull'):
            Bag(tmp_path).contents()

    def test_its_metadata(self, tmp_path):
        path = write_bag(tmp_path / 'bag', drive(1))
        with pytest.raises(BagError, match='name its folder instead'):
            Bag(path / 'metadata.yaml')
