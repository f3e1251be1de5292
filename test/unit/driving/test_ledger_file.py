# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The file of a ledger: every line is whole, whatever ends its writer."""

import json

from harness.ledgers import (
    clean_drive,
)
import pytest

from td3_agent.driving.ledger import (
    SCHEMA_VERSION,
    LedgerError,
    LedgerWriter,
    read_ledger,
)


def test_abandoned_ledger_has_no_end_and_raises_nothing(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    writer = LedgerWriter(path, flush_every=1)
    writer.write({'frame': 1})
    writer.abandon()
    writer.abandon()
    assert [r['frame'] for r in read_ledger(path)] == [1]
    assert b'"end"' not in path.read_bytes()


def written(path, records, **settings_):
    with LedgerWriter(path, **settings_) as writer:
        for record in records:
            writer.write(record)
    return path


def test_ledger_survives_the_round_trip(tmp_path):
    _, records = clean_drive(30)
    path = written(tmp_path / 'new' / 'folder' / 'ledger.jsonl', records)
    assert list(read_ledger(path)) == records
    header = json.loads(path.read_text(encoding='utf-8').splitlines()[0])
    assert header['schema_version'] == SCHEMA_VERSION


def test_ledger_replaces_an_older_one(tmp_path):
    path = written(tmp_path / 'ledger.jsonl', clean_drive(9)[1])
    written(path, [{'frame': 1}])
    assert list(read_ledger(path)) == [{'frame': 1}]


@pytest.mark.parametrize('flush_every', [1, 5])
def test_kill_loses_at_most_flush_every_records(tmp_path, flush_every):
    path = tmp_path / 'ledger.jsonl'
    writer = LedgerWriter(path, flush_every=flush_every)
    for number in range(23):
        writer.write({'frame': number})
        # As a killed writer leaves it: what is not flushed is less than flush_every records.
        assert len(list(read_ledger(path))) > number + 1 - flush_every
    writer.close()


def test_file_is_closed_whatever_happens(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    writer = LedgerWriter(path)
    writer.write({'frame': 1})
    with pytest.raises(TypeError, match='JSON serializable'), writer:
        writer.write({'frame': object()})
    assert writer._file.closed
    assert list(read_ledger(path)) == [{'frame': 1}]
    assert b'"end"' not in path.read_bytes()


def test_closing_twice_leaves_one_end(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    writer = LedgerWriter(path)
    writer.write({'frame': 1})
    writer.close()
    writer.close()
    *_, end = path.read_text('utf-8').splitlines()
    assert json.loads(end)['records'] == path.read_text('utf-8').count('"frame"') == 1


def test_line_cut_short_by_a_kill_ends_the_ledger_without_an_error(tmp_path):
    records = clean_drive(3)[1]
    path = written(tmp_path / 'ledger.jsonl', records)
    *lines, _ = path.read_bytes().splitlines(keepends=True)  # a killed writer leaves no end
    whole = b''.join(lines)
    for cut in range(1, len(lines[-1]) + 1):
        path.write_bytes(whole[:-cut])
        assert list(read_ledger(path)) == records[:-1]


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        ('{"schema_version":2,"kind":"td3_agent ledger"}\n', 'schema_version must be 3'),
        ('{"frame":1}\n', 'schema_version must be 3'),
        ('hello\n', ':1: not JSON'),
        ('[1, 2]\n', ':1: must be a JSON object'),
        ('{"schema_version":3}\n{"frame":1}\n{"frame":\n{"frame":3}\n', ':3: not JSON'),
        ('{"schema_version":3}\n7\n', ':2: must be a JSON object'),
    ],
)
def test_what_is_no_ledger_is_rejected_with_file_and_line(tmp_path, text, fault):
    path = tmp_path / 'ledger.jsonl'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(LedgerError, match=f'ledger.jsonl.*{fault}'):
        list(read_ledger(path))
